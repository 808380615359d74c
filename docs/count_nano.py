"""The algorithm of countgen on one page: `python docs/count_nano.py` writes counted.png.

The noise of an image decides how many objects it shows. A detector counts them, and its class logits have a gradient.
So: sample seeds until the detector is certain of the count; where such seeds are rare, move the noise of the nearest
one down the gradient of a count loss.
"""

import os
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file
from torch.nn.functional import interpolate
from torchvision.ops import box_convert, nms
from torchvision.utils import save_image

os.environ.setdefault("YOLO_OFFLINE", "true")  # Ultralytics reads it on import
from ultralytics.nn.tasks import DetectionModel

prompt, object_name, target_count, first_seed = "a photo of eight apples", "apple", 8, 0
max_seeds, seeds_before_refinement = 60, 12
threshold, nms_iou = torch.tensor(0.45).logit(), 0.5
steepness, loss_width, safe_distance = 4.0, 1.5, 1.2  # the last two in logits
num_optimization_steps, learning_rate, max_grad_norm, prior_weight = 12, 0.08, 10.0, 0.01

# A one-step generator shaped like SDXL-Turbo, and a YOLO11n with 24 classes, both for 128 x 128 pixels.
models = Path(__file__).parents[1] / "countgen" / "miniature"
pipe = StableDiffusionXLPipeline.from_pretrained(models / "mini-sdxl-turbo", dtype=torch.float32, use_safetensors=True)
detector = DetectionModel(str(models / "critic" / "yolo11n.yaml"), verbose=False).eval()
detector.load_state_dict(load_file(models / "critic" / "model.safetensors"))
for module in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2, detector):
    module.requires_grad_(False)


def render(latents, conditions):
    """Return the image of latents, (1, 3, 128, 128) in [0, 1], with a gradient that ignores the clamp."""
    pipe.scheduler.set_timesteps(1)
    (timestep,) = pipe.scheduler.timesteps
    latents = latents * pipe.scheduler.init_noise_sigma
    output = pipe.unet(pipe.scheduler.scale_model_input(latents, timestep), timestep, **conditions).sample
    latents = pipe.scheduler.step(output, timestep, latents).prev_sample
    image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample / 2 + 0.5
    return image + (image.clamp(0, 1) - image).detach()


def detect(image):
    """Return z: for each candidate box the distance of its class logit from the detector's threshold, best first."""
    boxes, raw = detector(image)
    logits = raw["scores"][0] - threshold
    z = logits[detector.yaml["names"].index(object_name)]
    lead = logits.amax(0) - z
    z = torch.where(lead > 0, z.clamp(max=0) - lead, z)  # a box of another class does not count
    return z[nms(box_convert(boxes[0, :4].T, "cxcywh", "xyxy").detach(), z.detach(), nms_iou)]


def soft_count(z):
    """Return the number of candidates above the threshold, smoothly (D2D, Eq. 1)."""
    return (steepness * z).sigmoid().sum()


def count_loss(z):
    """Return 0 if the best N candidates lie above the threshold and the others below it, all by `loss_width`."""
    return (loss_width - z[:target_count]).relu().sum() + (loss_width + z[target_count:]).relu().sum()


def margin(z):
    """Return how far the nearest candidate is from changing the count: 1 is safe, and below 0 the count is wrong."""
    return torch.minimum(z[target_count - 1], -z[target_count]).item() / safe_distance


def evaluate(latents, conditions):
    """Return the image, z on three views of it, since optimisation exploits mistakes on one, and the least margin."""
    image = render(latents, conditions)
    z = [detect(view) for view in (image, image.flip(-1), interpolate(image, (160, 160), mode="bilinear"))]
    return image.detach(), z, min(map(margin, z))


def refine(latents, conditions):
    """Move latents down the gradient until the count is accepted; return the image and its margin."""
    latents = latents.clone().requires_grad_()
    optimizer = torch.optim.Adam([latents], learning_rate)
    for step in range(num_optimization_steps):
        image, z, safety = evaluate(latents, conditions)
        print(f"    step {step}: soft count {soft_count(z[0]):.2f}, margin {safety:.2f}")
        if safety >= 1:
            break
        prior = latents.square().sum() / 2 - (latents.numel() - 1) * latents.norm().log()  # of noise (ReNO)
        optimizer.zero_grad()
        (sum(map(count_loss, z)) / len(z) + prior_weight * prior).backward()
        torch.nn.utils.clip_grad_norm_([latents], max_grad_norm)
        optimizer.step()
    return image, safety


def generate():
    """Return the first image that is accepted, that is, with a margin of at least 1 on all views, and its seed."""
    embeds, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
    size = torch.tensor([[128.0, 128, 0, 0, 128, 128]])
    conditions = {"encoder_hidden_states": embeds, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": size}}
    waiting = []
    for number in range(max_seeds):
        seed = first_seed + number * 1_000_003
        latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            image, z, safety = evaluate(latents, conditions)
        print(f"seed {seed}: count {(z[0] > 0).sum()}, margin {safety:.2f}")
        # Right counts rank by their margin, above wrong ones by their loss.
        waiting.append((safety if safety > 0 else -count_loss(z[0]).item(), seed, latents))
        if safety < 1 and (number + 1) % seeds_before_refinement == 0:
            _, seed, latents = waiting.pop(waiting.index(max(waiting)))
            print(f"refine seed {seed}")
            image, safety = refine(latents, conditions)
        if safety >= 1:
            return image, seed
    raise RuntimeError(f"none of {max_seeds} seeds was accepted")


if __name__ == "__main__":
    save_image(generate()[0], "counted.png")
