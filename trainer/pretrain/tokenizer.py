"""A vocabulary for a catalogue of one's own, trained on its text.

Byte-pair encoding over characters (Sennrich et al., "Neural Machine Translation of Rare Words with
Subword Units", 2016), since it finds words in text without spaces: trained on Chinese titles,
笔记本电脑 becomes one token, where WordPiece as BERT has it would see five characters. What a model
of another vocabulary would spend rows on (250,000 in XLM-R) is left out.
"""

from collections.abc import Iterable
from typing import Final

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from neuralrank.errors import InvalidInput

__all__ = ["CLS", "MASK", "PAD", "SEP", "UNKNOWN", "train_tokenizer"]

PAD: Final = "[PAD]"
UNKNOWN: Final = "[UNK]"
CLS: Final = "[CLS]"
SEP: Final = "[SEP]"
MASK: Final = "[MASK]"
_SPECIAL: Final = (PAD, UNKNOWN, CLS, SEP, MASK)
# Longer pieces are whole titles that come often, such as those of a brand's variants.
_LONGEST_PIECE: Final = 12


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer `[CLS] a [SEP] b [SEP]` with a vocabulary of at most `size` tokens.

    Every character of the texts is a token, so `size` must leave room for words. Text is read in
    NFKC and in lower case: full-width and capital letters mean nothing to a search.

    Raises:
        InvalidInput: there is no text.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
        ]
    )
    # Numbers and units apart from words, so that "16gb" and "16 gb" have tokens in common.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            # Metaspace's own sign, U+2581, is a symbol, too.
            pre_tokenizers.Split(Regex(r"\p{N}+|[\p{P}\p{S}&&[^▁]]"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(_SPECIAL),
        min_frequency=2,
        max_token_length=_LONGEST_PIECE,
        show_progress=False,
    )
    kept = [text for text in texts if text.strip()]
    if not kept:
        raise InvalidInput("There is no text to train a tokenizer on.")
    tokenizer.train_from_iterator(kept, trainer)
    ids = {token: tokenizer.token_to_id(token) for token in (CLS, SEP)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=list(ids.items()),
    )
    return tokenizer
