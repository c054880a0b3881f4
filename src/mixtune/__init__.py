"""mixtune: fine-tune vision-language models on many tasks at once with mixtures of LoRA.

Importing it makes peft know the method, so that peft and transformers can load a folder that holds such an adapter.
"""

from peft import get_peft_model

from mixtune.adapters import MixtureConfig, auxiliary_loss, center_routers, record_routing

__version__ = "0.1.0"

__all__ = ["MixtureConfig", "__version__", "auxiliary_loss", "center_routers", "get_peft_model", "record_routing"]
