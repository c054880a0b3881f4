"""Processors with other chat templates and another tokenizer than the tiny one, for the encoder's tests."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

CONTENT = (
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n" + CONTENT + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# as LLaVA-1.5: nothing ends an answer but a space
VICUNA = (
    "{% for m in messages %}{{ m['role'].upper() }}: " + CONTENT + " {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
# the prompt ends with a space that a byte-level tokenizer joins to the answer's first word
SPACED = (
    "{% for m in messages %}{{ m['role'] }}: " + CONTENT + "{% if m['role'] == 'assistant' %}<|im_end|>{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
# as Phi-3: a second end after the last turn only
TWO_ENDS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n" + CONTENT + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}{{ eos_token }}{% endif %}"
)
# the generation prompt opens a thought that is not kept in the conversation
THINKING = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}")
NO_IMAGES = CHATML.replace("<image>", "")


def byte_level_processor(template: str) -> LlavaProcessor:
    """A byte-level BPE tokenizer (words with their leading space are tokens) and 28-pixel pictures of four tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<|im_start|>", "<|im_end|>", "<image>", "<|end|>"]
    words = "what colour is this ? red blue green dark user: assistant: ASSISTANT: USER: and now be short"
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator([f"{words} {words}"] * 20, trainer)
    backend.add_special_tokens([AddedToken(name, special=True) for name in specials])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<|end|>")
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=14,
        chat_template=template,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
