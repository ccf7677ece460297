"""What has to be set before PyTorch is imported, which takes seconds: scripts import this module before all others.

- Ctrl-C ends the process at once and without a traceback (status 130), until `engine/script.py: run_script` begins.
- Of several processes each tells in one message that another is gone (`utils/watch.py`). PyTorch's own warnings of the
  lost connection, pages of C++ frames, stay away unless TORCH_CPP_LOG_LEVEL asks for them.
"""

from __future__ import annotations

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored (nohup), or handled
    signal.signal(signal.SIGINT, signal.SIG_DFL)

if os.environ.get("WORLD_SIZE", "1") != "1":
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
