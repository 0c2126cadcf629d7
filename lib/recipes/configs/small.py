# An InternImage that two CPU cores train within three quarters of an hour, self-training included.
_base_ = ["_base_/upernet.py", "_base_/adamw_poly.py"]

scale = (480, 270)
ratio_range = (0.5, 1.25)
crop_size = (160, 288)
batch_size = 4
num_workers = 1
max_iters = 2000
warmup_iters = 100
val_interval = 500

model = dict(
    backbone=dict(
        type="InternImage",
        channels=32,
        depths=[1, 2, 4, 2],
        groups=[2, 4, 8, 16],
        mlp_ratio=2.0,
        drop_path_rate=0.0,
        layer_scale=1.0,
        offset_scale=1.0,
        post_norm=False,
        out_indices=(0, 1, 2, 3),
    ),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=32, dropout_ratio=0.0),
    auxiliary_head=dict(in_channels=128, channels=32, dropout_ratio=0.0),
)

optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(num_layers=9, layer_decay_rate=1.0, depths=[1, 2, 4, 2]),
)
