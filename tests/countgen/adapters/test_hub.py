"""An adapter's repository on the hub, without a network; uploads are tested with tokens, which share them."""

import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from PIL import Image, ImageChops

import countgen
from countgen.adapters.file import encoded
from countgen.adapters.hub import FILE_NAME, from_pretrained, model_card, push_to_hub, save_pretrained
from countgen.images import to_pil


def test_the_card_describes_the_adapter(adapter):
    card = ModelCard(model_card(adapter, "someone/noise"))
    assert card.data.license == "apache-2.0"
    for text in ("3 to 6", "apple, dog", "miniature-yolo", "50 %, without it 25 %", "(4, 32, 32)", adapter.sha256[:16]):
        assert text in card.text
    assert "not measured" in model_card(replace(adapter, accuracy=None), "someone/noise")
    elsewhere = model_card(replace(adapter, base_model="sdxl-turbo:someone/apples"), "someone/noise")
    assert "backbones.load('sdxl-turbo', repository='someone/apples')\n" in elsewhere


def test_the_cards_example_runs_and_generates_the_same_image(models, adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = save_pretrained(adapter, "my adapter")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", FILE_NAME]
    assert encoded(from_pretrained(folder)) == encoded(adapter)
    (example,) = re.findall("```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(example, {})
    expected = to_pil(countgen.generate("a photo of six apples", models, method="plain", adapter=adapter).image)
    assert ImageChops.difference(Image.open("image.png"), expected).getbbox() is None


def test_push_to_hub_uploads_the_adapter_and_its_card(adapter, monkeypatch):
    import huggingface_hub

    calls = []

    class Recording(huggingface_hub.HfApi):
        def create_repo(self, repo_id, **options):
            calls.append((repo_id, options["private"]))

        def upload_folder(self, *, folder_path, **_):
            calls.append(encoded(from_pretrained(folder_path)))
            return huggingface_hub.CommitInfo(
                commit_url="https://huggingface.co/a/b/commit/1", commit_message="", commit_description="", oid="1"
            )

    monkeypatch.setattr(huggingface_hub, "HfApi", Recording)
    assert push_to_hub(adapter, "someone/noise", private=True).endswith("commit/1")
    assert calls == [("someone/noise", True), encoded(adapter)]


def test_adapters_are_found_by_name_or_file(adapter, tmp_path, monkeypatch):
    from countgen.adapters import library

    with pytest.raises(ValueError, match="no noise adapter is shipped for magic"):
        library.shipped_adapter("magic")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    (tmp_path / "miniature").mkdir()
    for name in ("b", "a"):
        path = countgen.save_adapter(adapter, tmp_path / "miniature" / f"{name}.safetensors")
    assert list(countgen.available_adapters("miniature")) == ["a", "b"]
    assert encoded(library.shipped_adapter("miniature")) == encoded(adapter)
    assert encoded(countgen.find_adapter("a", "miniature")) == encoded(countgen.find_adapter(str(path), "magic"))
    with pytest.raises(ValueError, match=r"no adapter 'c'.*are a, b"):
        countgen.find_adapter("c", "miniature")
