# The seed recipe: UperNet on InternImage-B, two crops of 512x1024 per GPU, 160,000 iterations.
_base_ = ["_base_/upernet.py", "_base_/adamw_poly.py"]

scale = (2048, 1024)
ratio_range = (0.5, 2.0)
crop_size = (512, 1024)
batch_size = 2
num_workers = 4
max_iters = 160000
warmup_iters = 1500
val_interval = 8000

model = dict(
    backbone=dict(
        type="InternImage",
        channels=112,
        depths=[4, 4, 21, 4],
        groups=[7, 14, 28, 56],
        mlp_ratio=4.0,
        drop_path_rate=0.4,
        layer_scale=1.0,
        offset_scale=1.0,
        post_norm=True,
        with_cp=False,
        out_indices=(0, 1, 2, 3),
    ),
    decode_head=dict(in_channels=[112, 224, 448, 896]),
    auxiliary_head=dict(in_channels=448),
    test_cfg=dict(mode="slide", crop_size=(512, 1024), stride=(341, 683)),
)

optim_wrapper = dict(
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(num_layers=33, layer_decay_rate=1.0, depths=[4, 4, 21, 4]),
)
