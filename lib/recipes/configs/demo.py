# A very small InternImage that learns the built-in sample on two CPU cores in a couple of minutes.
_base_ = ["_base_/upernet.py", "_base_/adamw_poly.py"]

scale = (480, 270)
ratio_range = (0.5, 1.25)
crop_size = (160, 288)
batch_size = 4
num_workers = 2
max_iters = 200
warmup_iters = 20
val_interval = 100

model = dict(
    backbone=dict(
        type="InternImage",
        channels=16,
        depths=[1, 1, 2, 1],
        groups=[1, 2, 4, 8],
        mlp_ratio=2.0,
        drop_path_rate=0.0,
        layer_scale=1.0,
        offset_scale=1.0,
        post_norm=False,
        out_indices=(0, 1, 2, 3),
    ),
    decode_head=dict(in_channels=[16, 32, 64, 128], channels=48, dropout_ratio=0.0),
    auxiliary_head=dict(in_channels=64, channels=32, dropout_ratio=0.0),
)

optim_wrapper = dict(
    optimizer=dict(lr=2e-3),
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(num_layers=5, layer_decay_rate=1.0, depths=[1, 1, 2, 1]),
)
