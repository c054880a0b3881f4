"""Processors of other families than LLaVA, built in code from image processors that need no torchvision."""

from transformers import Gemma3Processor, LlavaNextProcessor, PaliGemmaProcessor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

import tiny

SQUARE = {"height": 16, "width": 16}


def llava_next_processor() -> LlavaNextProcessor:
    """Pictures of 16 pixels in patches of 4: an overview and one or two squares, by the picture's shape."""
    pictures = LlavaNextImageProcessorPil(
        size={"shortest_edge": 16}, crop_size=SQUARE, image_grid_pinpoints=[[16, 16], [16, 32]]
    )
    return LlavaNextProcessor(
        pictures, tiny.tiny_tokenizer(), patch_size=4, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=tiny.CHAT_TEMPLATE,
    )  # fmt: skip


def gemma3_processor() -> Gemma3Processor:
    """Four image tokens a picture between two marks, of which the first stands for the picture in the text.

    The processor puts blank lines around them, and new lines that follow one another are one token.
    """
    tokenizer = tiny.tiny_tokenizer()
    tokenizer.add_tokens(["\n\n", "\n\n\n", "\n\n\n\n"])
    tokenizer.add_tokens(["<boi>", "<eoi>"], special_tokens=True)
    for name, token in (("image", "<image>"), ("boi", "<boi>"), ("eoi", "<eoi>")):
        setattr(tokenizer, f"{name}_token", token)
        setattr(tokenizer, f"{name}_token_id", tokenizer.convert_tokens_to_ids(token))
    return Gemma3Processor(
        Gemma3ImageProcessorPil(size=SQUARE), tokenizer, image_seq_length=4,
        chat_template=tiny.CHAT_TEMPLATE.replace("<image>", "<boi>").replace("USER: ", "USER:\n"),
    )  # fmt: skip


def paligemma_processor() -> PaliGemmaProcessor:
    """Sixteen image tokens a picture, and a processor that writes a whole prompt around them."""
    pictures = SiglipImageProcessorPil(size=SQUARE)
    pictures.image_seq_length = 16
    return PaliGemmaProcessor(pictures, tiny.tiny_tokenizer(), chat_template=tiny.CHAT_TEMPLATE)
