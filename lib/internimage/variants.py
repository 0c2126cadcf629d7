"""Constructor arguments of the published InternImage variants.

The published weights fix every argument but ``drop_path_rate``, which is that of the published segmentation configs.
"""

_POST_NORM = dict(layer_scale=1.0, post_norm=True)
_LARGE = dict(_POST_NORM, offset_scale=2.0, drop_path_rate=0.4)
_HUGE = dict(dw_kernel_size=5, level2_post_norm=True, center_feature_scale=True, drop_path_rate=0.5)

VARIANTS: dict[str, dict] = {
    "t": dict(channels=64, depths=(4, 4, 18, 4), groups=(4, 8, 16, 32), layer_scale=1.0, drop_path_rate=0.2),
    "s": dict(_POST_NORM, channels=80, depths=(4, 4, 21, 4), groups=(5, 10, 20, 40), drop_path_rate=0.3),
    "b": dict(_POST_NORM, channels=112, depths=(4, 4, 21, 4), groups=(7, 14, 28, 56), drop_path_rate=0.4),
    "l": dict(_LARGE, channels=160, depths=(5, 5, 22, 5), groups=(10, 20, 40, 80)),
    "xl": dict(_LARGE, channels=192, depths=(5, 5, 24, 5), groups=(12, 24, 48, 96)),
    "h": dict(
        _HUGE,
        channels=320,
        depths=(6, 6, 32, 6),
        groups=(10, 20, 40, 80),
        res_post_norm=True,
        level2_post_norm_block_ids=(5, 11, 17, 23, 29),
    ),
    "g": dict(
        _HUGE,
        channels=512,
        depths=(2, 2, 48, 4),
        groups=(16, 32, 64, 128),
        post_norm=True,
        level2_post_norm_block_ids=(5, 11, 17, 23, 29, 35, 41, 47),
    ),
}
