"""A local folder in the format of Hugging Face `transformers`, before the model is built.

Nothing is downloaded, and no code of the folder is run.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dlm_bench.errors import ConfigError, first_line, is_out_of_memory
from dlm_bench.models.hf.families import family_of, presets_of_shape, read_config
from dlm_bench.models.own import own_passes
from dlm_bench.models.transformer_config import TransformerConfig

DIGITS = 16  # hexadecimal, of the digests
WEIGHTS = "*.safetensors"
LONG = 1 << 40  # tokens: longer than any sliding window


@dataclass(frozen=True)
class Folder:
    """A model's folder.

    name: `hf:` and the folder's own name.
    config: the `transformers` configuration, or a `TransformerConfig` if the model is built here.
    digest: the digest of the configuration's content.
    model_class: the class of `transformers`, named or implied by the configuration; None if the
        model is built here.
    supports: all passes of a denoiser if the model is built here; else ("full",) for a masked LM,
        or a causal LM whose configuration says `is_causal: false`; ("ar", "prefill") for a causal
        LM.
    max_length: the most tokens of a sequence, by the configuration, and for an autoregressive
        decode the shortest sliding window; None without a limit.
    names: the key of its tensors' names in `dlm_bench.models.hf.tensors`, if it is built here.
    block_size: the block that the model was trained with; 0 if none is known.
    preset: the backbone here of the same kind, if there is one.
    """

    path: Path
    name: str
    config: Any
    digest: str
    model_class: Any
    supports: tuple[str, ...]
    max_length: int | None
    names: str = ""
    block_size: int = 0
    preset: str = ""

    def weights_digest(self, random_weights: bool) -> str:
        """The digest of the weights' files; empty if they are to be random. Raises ConfigError if
        there are none."""
        files = sorted(self.path.glob(WEIGHTS))
        if random_weights:
            return ""
        if not files:
            raise ConfigError(
                f"backbone: {self.name!r} has no weights ({WEIGHTS} in {str(self.path)!r}); "
                "--random-weights, or random_weights = true in a sweep, draws them"
            )
        whole = hashlib.sha256()
        for path in files:
            there = path.stat()
            whole.update(_digest(path, there.st_size, there.st_mtime_ns))
        return whole.hexdigest()[:DIGITS]


@cache
def _digest(path: Path, size: int, modified: int) -> bytes:
    """Of a file's content, which may be gigabytes; `size` and `modified` (ns) tell it changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def read_folder(path: str | Path) -> Folder:
    """Read a folder's configuration. Raises ConfigError if there is none. A model that is not built
    here needs `transformers`, and is an error if that is missing or does not know the model, or the
    model is neither a masked LM nor a causal LM whose cache holds keys and values.
    """
    folder, name, content, digest = _content(path)
    family = family_of(content)
    if family is not None:
        own = read_config(name, family, content, folder, digest)
        return Folder(
            path=folder,
            name=name,
            config=own,
            digest=digest,
            model_class=None,
            supports=own_passes(own.denoiser, token_shift=own.token_shift),
            max_length=own.max_length,
            names=family.names,
            block_size=own.block_size,
            preset=family.preset,
        )
    with transformers_quiet(name):
        from transformers import AutoConfig

        _refuse_code(name, content)
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        kind, model_class = _model_class(name, config)
    longest = [_positions(config)]
    if kind == "ar":
        longest.append(_check_cache(name, config, model_class))
    limits = [limit for limit in longest if limit is not None]
    return Folder(
        path=folder,
        name=name,
        config=config,
        digest=digest,
        model_class=model_class,
        supports=("ar", "prefill") if kind == "ar" else (kind,),
        max_length=min(limits, default=None),
    )


def folder_config(path: str | Path) -> TransformerConfig | None:
    """Read the configuration of a model that is built here, without `transformers`; None for
    another model. Raises ConfigError as `read_folder`."""
    folder, name, content, digest = _content(path)
    family = family_of(content)
    return None if family is None else read_config(name, family, content, folder, digest)


def _content(path: str | Path) -> tuple[Path, str, dict[str, Any], str]:
    """Read config.json: the absolute path of the folder, the backbone's name, the content and its
    digest."""
    folder = Path(path).expanduser().resolve()
    name = f"hf:{folder.name}"
    if not folder.is_dir():
        raise ConfigError(f"backbone: {f'hf:{path}'!r}: no such folder")
    try:
        text = (folder / "config.json").read_bytes()
        content = json.loads(text)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"not valid JSON: {error}"
        raise ConfigError(f"backbone: {name!r}: config.json in {str(folder)!r}: {why}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"backbone: {name!r}: config.json in {str(folder)!r}: must be an object")
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGITS]
    return folder, name, content, digest


def _refuse_code(name: str, content: dict[str, Any]) -> None:
    """Raise ConfigError for a folder whose model is defined by code inside. A class of
    `transformers`, named beside such code, is built as that class.
    """
    if not content.get("auto_map"):
        return
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    named = content.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else ""
    if content.get("model_type") in CONFIG_MAPPING and hasattr(transformers, architecture):
        return
    model = architecture or str(content.get("model_type", "its model"))
    alike = presets_of_shape(content)
    advice = (
        f"backbones of its shape: {', '.join(alike)}"
        if alike
        else "write the model as a plug-in instead (docs/plugins.md)"
    )
    raise ConfigError(
        f"backbone: {name!r}: {model} is defined by code in the folder (auto_map in config.json), "
        f"which is not run; {advice}"
    )


@contextmanager
def transformers_quiet(name: str) -> Iterator[None]:
    """Use `transformers` without its messages and progress bars. Its errors, and its absence,
    become a ConfigError about the backbone of this name.
    """
    try:
        from transformers.utils import logging
    except ImportError:
        raise ConfigError(
            f"backbone: {name!r} needs transformers (pip install transformers)"
        ) from None
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # each model's code raises what it likes
        if is_out_of_memory(error):
            raise
        what = first_line(error) or "no reason given"
        raise ConfigError(
            f"backbone: {name!r}: transformers refuses it: {type(error).__name__}: {what}"
        ) from error
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _model_class(name: str, config: Any) -> tuple[str, Any]:
    """Return the capabilities of the model, and the class."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING as CAUSAL,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_MASKED_LM_MAPPING as MASKED,
    )

    kind = type(config)
    masked: Any = MASKED.get(kind, None)
    causal: Any = CAUSAL.get(kind, None)
    if getattr(config, "is_encoder_decoder", False) or not (masked or causal):
        raise ConfigError(
            f"backbone: {name!r}: model_type {config.model_type!r} is not supported; allowed: "
            "masked and causal language models of transformers, without a separate encoder"
        )
    if getattr(config.get_text_config(), "final_logit_softcapping", None) is not None:
        raise ConfigError(
            f"backbone: {name!r}: final_logit_softcapping is not supported; the LM head here has "
            "no soft cap"
        )
    named = (getattr(config, "architectures", None) or [""])[0]
    wants_causal = getattr(config, "is_decoder", False) or (
        causal is not None and named == causal.__name__
    )
    if masked is not None and not (causal is not None and wants_causal):
        return "full", masked
    return ("ar" if getattr(config, "is_causal", True) is not False else "full"), causal


def _positions(config: Any) -> int | None:
    """Return the largest number of positions by the configuration."""
    found = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def _check_cache(name: str, config: Any, model_class: Any) -> int | None:
    """Raise ConfigError unless the model keeps keys and values of every token; the length of its
    shortest sliding window, None without any.

    Within a window such a layer is one of full attention; beyond it the cache here would be larger
    than the model's own.
    """
    from transformers.cache_utils import StaticCache, StaticLayer, StaticSlidingWindowLayer

    layers: list[Any] = StaticCache(config=config, max_cache_len=LONG).layers
    kinds = {type(layer) for layer in layers}
    takes = inspect.signature(model_class.forward).parameters
    stateful = getattr(model_class, "_is_stateful", False) or "past_key_values" not in takes
    if stateful or not layers or not kinds <= {StaticLayer, StaticSlidingWindowLayer}:
        raise ConfigError(
            f"backbone: {name!r}: {model_class.__name__} keeps no cache of keys and values for "
            "every token, which sampler 'ar' needs"
        )
    shortest = min(layer.max_cache_len for layer in layers)
    return None if shortest == LONG else int(shortest)
