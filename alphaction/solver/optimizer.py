"""Learning rate and weight decay of every parameter, by its name.

The order of the groups is the order of the parameters: optimizer states of the original and of ours fit each other.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_INTERACTION = "roi_heads.action.feature_extractor.ia_structure."


def parameter_groups(
    model: nn.Module,
    *,
    base_lr: float,
    weight_decay: float,
    bias_lr_factor: float = 1.0,
    weight_decay_bias: float = 0.0,
    weight_decay_bn: float = 0.0,
    interaction_lr_factor: float = 1.0,
) -> list[dict[str, object]]:
    """One optimizer group per trainable parameter, in the order of `model.named_parameters()`.

    Weight and bias of a batch norm take `base_lr` and `weight_decay_bn`. Any other bias takes `base_lr *
    bias_lr_factor` and `weight_decay_bias`, any other parameter `base_lr` and `weight_decay`; both rates are multiplied
    by `interaction_lr_factor` in the interaction structure.

    Args:
        model: may be wrapped in DistributedDataParallel.

    Returns:
        Dicts with "params" (one parameter), "lr" and "weight_decay", as torch optimizers take them.
    """
    batch_norm = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _BatchNorm)
        for parameter in module.parameters(recurse=False)
    }
    groups: list[dict[str, object]] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        name = name.removeprefix("module.")
        if id(parameter) in batch_norm:
            rate, decay = base_lr, weight_decay_bn
        elif "bias" in name.rsplit(".", 1)[-1]:
            rate, decay = base_lr * bias_lr_factor, weight_decay_bias
        else:
            rate, decay = base_lr, weight_decay
        if name.startswith(_INTERACTION) and id(parameter) not in batch_norm:
            rate *= interaction_lr_factor
        groups.append({"params": [parameter], "lr": rate, "weight_decay": decay})
    return groups
