# Network for many short trainings on a CPU: the demo's, at half its image size, with a lighter head.
_base_ = ["../lib/recipes/configs/demo.py"]

scale = (240, 135)
ratio_range = (0.8, 1.5)
crop_size = (112, 192)
batch_size = 4
num_workers = 1
max_iters = 300
warmup_iters = 20
val_interval = 150

model = dict(decode_head=dict(channels=32))
