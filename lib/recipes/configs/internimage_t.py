# UperNet with a slim head on InternImage-T: short enough to try things on one large GPU within minutes, in bfloat16.
_base_ = ["demo.py"]

scale = (960, 540)
ratio_range = (0.75, 1.5)
crop_size = (384, 640)
batch_size = 8
num_workers = 12
max_iters = 1000
warmup_iters = 100
val_interval = 250

model = dict(
    backbone=dict(channels=64, depths=[4, 4, 18, 4], groups=[4, 8, 16, 32], mlp_ratio=4.0, drop_path_rate=0.2),
    decode_head=dict(in_channels=[64, 128, 256, 512], channels=256, dropout_ratio=0.1),
    auxiliary_head=dict(in_channels=256, channels=128, dropout_ratio=0.1),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(num_layers=30, depths=[4, 4, 18, 4]))
