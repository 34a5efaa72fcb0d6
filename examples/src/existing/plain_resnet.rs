//! A residual network for small images (He et al. 2016, <https://arxiv.org/abs/1512.03385>), before it was
//! wrapped.
use tch::nn::{self, ModuleT, SequentialT};

/// Channels of the stages, and the stride of the block that opens each.
const STAGES: [(i64, i64); 3] = [(16, 1), (32, 2), (64, 2)];

/// Maps images `[batch, 3, height, width]` to logits `[batch, classes]`, through three stages of `blocks`
/// blocks each.
pub fn resnet(path: &nn::Path, blocks: usize, classes: i64) -> SequentialT {
    let mut net = nn::seq_t()
        .add(conv(path / "conv", 3, 16, 3, 1))
        .add(nn::batch_norm2d(path / "norm", 16, Default::default()))
        .add_fn(|x| x.relu());
    let mut channels = 16;
    for (stage, (wider, stride)) in STAGES.into_iter().enumerate() {
        net = net.add(block(&(path / "stages" / stage / 0), channels, wider, stride));
        for index in 1..blocks {
            let path = path / "stages" / stage / index;
            net = net.add(block(&path, wider, wider, 1));
        }
        channels = wider;
    }
    let head = nn::linear(path / "head", channels, classes, Default::default());
    net.add_fn(|x| x.adaptive_avg_pool2d([1, 1]).flat_view()).add(head)
}

fn block(path: &nn::Path, from: i64, to: i64, stride: i64) -> impl ModuleT + use<> {
    let conv1 = conv(path / "conv1", from, to, 3, stride);
    let norm1 = nn::batch_norm2d(path / "norm1", to, Default::default());
    let conv2 = conv(path / "conv2", to, to, 3, 1);
    let norm2 = nn::batch_norm2d(path / "norm2", to, Default::default());
    let mut shortcut = nn::seq_t();
    if stride != 1 || from != to {
        shortcut = shortcut
            .add(conv(path / "shortcut" / 0, from, to, 1, stride))
            .add(nn::batch_norm2d(path / "shortcut" / 1, to, Default::default()));
    }
    nn::func_t(move |x, train| {
        let y = x.apply(&conv1).apply_t(&norm1, train).relu().apply(&conv2).apply_t(&norm2, train);
        (x.apply_t(&shortcut, train) + y).relu()
    })
}

fn conv(path: nn::Path, from: i64, to: i64, size: i64, stride: i64) -> nn::Conv2D {
    let c = nn::ConvConfig { stride, padding: size / 2, bias: false, ..Default::default() };
    nn::conv2d(path, from, to, size, c)
}
