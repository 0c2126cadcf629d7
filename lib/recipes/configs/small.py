# An InternImage that two CPU cores train within 45 minutes, self-training included.
_base_ = ["demo.py"]

num_workers = 1
max_iters = 2000
warmup_iters = 100
val_interval = 500

model = dict(
    backbone=dict(channels=32, depths=[1, 2, 4, 2], groups=[2, 4, 8, 16]),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=32),
    auxiliary_head=dict(in_channels=128),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(num_layers=9, depths=[1, 2, 4, 2]))
