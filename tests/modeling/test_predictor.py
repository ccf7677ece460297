import torch

from alphaction.modeling.head import ActionPredictor


def test_dropout_comes_before_the_last_layer_and_leaves_its_input_alone():
    """QUIRKS 56: the original dropped in place."""
    torch.manual_seed(0)
    predictor = ActionPredictor(1000, num_classes=2, dropout=0.25)
    torch.nn.init.ones_(predictor.cls_score.weight)
    features = torch.ones(3, 1000)
    kept = predictor.train()(features) * 0.75  # what is kept is scaled by 1 / 0.75
    assert torch.equal(features, torch.ones(3, 1000))
    assert ((kept > 650) & (kept < 850)).all() and len(kept.unique()) > 1
    assert (predictor.eval()(features) == 1000).all()
