# AdamW with a linear warm-up and a straight descent to zero.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.05),
)
poly_power = 1.0
