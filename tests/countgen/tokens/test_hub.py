"""A token's repository on the hub, without a network."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from PIL import Image, ImageChops

import countgen
from countgen.images import to_pil
from countgen.tokens.file import encoded
from countgen.tokens.hub import FILE_NAME, from_pretrained, model_card, push_to_hub, save_pretrained
from tests.countgen.tokens.examples import token_of


@pytest.fixture
def token(models):
    return token_of(models.backbone, base_model="sdxl-turbo")


def test_the_card_describes_the_token_and_loads_the_checkpoint_it_was_trained_on(token):
    card = ModelCard(model_card(token, "someone/count-7"))
    assert card.data.license == "apache-2.0"
    for text in ("<count-7>", "apple, dog", "miniature-yolo", "50 %", "sdxl-turbo", token.sha256[:16], FILE_NAME):
        assert text in card.text
    for checkpoint, comment in (("someone/apples", ""), ("apples-1a2b3c4d", "  # the path of that checkpoint")):
        text = model_card(replace(token, base_model=f"sdxl-turbo:{checkpoint}"), "someone/count-7")
        assert f"backbones.load('sdxl-turbo', repository='{checkpoint}'){comment}\n" in text


def test_the_cards_example_runs_and_generates_the_same_image(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    token = countgen.find_token("count-5", "miniature")
    card = (save_pretrained(token, "my token") / "README.md").read_text(encoding="utf-8")
    assert "textual-inversion" in ModelCard(card).data.tags
    (example,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
    exec(example, {})
    prompt = f"a photo of {token.target_count} apples"
    expected = to_pil(countgen.generate(prompt, models, method="plain", token=token).image)
    assert ImageChops.difference(Image.open("image.png"), expected).getbbox() is None


def test_a_token_is_read_from_a_folder_and_from_the_hubs_cache_without_a_network(token, hub_snapshot):
    folder = save_pretrained(token, hub_snapshot("someone/count-7"))
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", FILE_NAME]
    assert encoded(from_pretrained(folder)) == encoded(token)
    assert encoded(from_pretrained("someone/count-7")) == encoded(token)
    assert encoded(from_pretrained("someone/count-7", revision=folder.name)) == encoded(token)
    with pytest.raises(OSError, match="cannot find the requested files in the local cache"):
        from_pretrained("someone/count-9")


def test_push_to_hub_uploads_the_token_and_its_card(token, monkeypatch):
    import huggingface_hub

    calls = []

    class Recording(huggingface_hub.HfApi):
        def create_repo(self, repo_id, **options):
            calls.append((repo_id, options))

        def upload_folder(self, *, repo_id, folder_path, **_):
            assert "from_pretrained('someone/count-7')" in (Path(folder_path) / "README.md").read_text(encoding="utf-8")
            calls.append((repo_id, encoded(from_pretrained(folder_path))))
            return huggingface_hub.CommitInfo(
                commit_url="https://huggingface.co/a/b/commit/1", commit_message="", commit_description="", oid="1"
            )

    monkeypatch.setattr(huggingface_hub, "HfApi", Recording)
    assert push_to_hub(token, "someone/count-7", private=True).endswith("commit/1")
    assert calls == [
        ("someone/count-7", {"private": True, "exist_ok": True}),
        ("someone/count-7", encoded(token)),
    ]
