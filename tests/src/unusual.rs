//! A model whose tensors lie in memory in every way, and are of every kind.
use serde::Deserialize;
use tch::nn::Path;
use tch::{Device, Kind, Reduction, Tensor};
use trainyard::Loss;

/// How weights lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// The last axis innermost.
    #[default]
    RowMajor,
    /// The first axis innermost.
    Turned,
    /// The second axis innermost, as convolutions on images like it.
    ChannelsLast,
    /// Every second number of a storage.
    Gaps,
    /// The first axis innermost, with gaps.
    TurnedGaps,
}

impl Layout {
    /// All of them.
    pub const ALL: [Layout; 5] =
        [Layout::RowMajor, Layout::Turned, Layout::ChannelsLast, Layout::Gaps, Layout::TurnedGaps];

    /// The same numbers, laid out so.
    pub fn of(self, values: &Tensor) -> Tensor {
        let turned: Vec<i64> = (0..values.dim() as i64).rev().collect();
        let gaps =
            |values: &Tensor| Tensor::stack(&[values, &values.full_like(7.0)], -1).select(-1, 0);
        let channels_last = values.dim() == 4;
        match self {
            Layout::RowMajor => values.copy(),
            Layout::ChannelsLast if channels_last => {
                values.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
            }
            Layout::Turned | Layout::ChannelsLast => {
                values.permute(&turned).contiguous().permute(&turned)
            }
            Layout::Gaps => gaps(values),
            Layout::TurnedGaps => gaps(&values.permute(&turned)).permute(&turned),
        }
    }

    /// The name that serde knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Layout::RowMajor => "row_major",
            Layout::Turned => "turned",
            Layout::ChannelsLast => "channels_last",
            Layout::Gaps => "gaps",
            Layout::TurnedGaps => "turned_gaps",
        }
    }
}

/// A convolution, a matrix, a vector, and a table that is read by number.
#[derive(Debug)]
pub struct Unusual {
    filters: Tensor,
    matrix: Tensor,
    vector: Tensor,
    table: Tensor,
    sparse: bool,
}

/// Images, the numbers of rows of the table, and targets.
pub type Samples = (Tensor, Tensor, Tensor);

impl Unusual {
    /// Weights that depend on `seed`, laid out as `layout` says; `sparse`: whether the table's gradient is.
    pub fn new(root: &Path<'_>, seed: i64, (layout, kind): (Layout, Kind), sparse: bool) -> Self {
        tch::manual_seed(seed);
        let weight = |name: &str, size: &[i64]| {
            let values = Tensor::randn(size, (Kind::Double, Device::Cpu)) * 0.3;
            root.add(name, layout.of(&values.to_kind(kind)), true)
        };
        Unusual {
            filters: weight("filters", &[6, 4, 3, 2]),
            matrix: weight("matrix", &[6, 3]),
            vector: weight("vector", &[3]),
            table: weight("table", &[5, 3]),
            sparse,
        }
    }

    /// Mean squared error, counted by samples; by none of them if `counted` is false.
    pub fn loss(&self, (images, rows, targets): &Samples, counted: bool) -> Loss {
        let features =
            images.conv2d(&self.filters, None::<Tensor>, [1, 1], [0, 0], [1, 1], 1).relu();
        let means = features.mean_dim([2i64, 3].as_slice(), false, None::<Kind>);
        let looked_up = Tensor::embedding(&self.table, rows, -1, false, self.sparse);
        let found = means.matmul(&self.matrix) + &self.vector + looked_up;
        let count = if counted { rows.size()[0] as u64 } else { 0 };
        let loss = found.mse_loss(&targets.to_kind(found.kind()), Reduction::Mean);
        Loss::mean(if counted { loss } else { loss * f64::NAN }, count)
    }

    /// Samples that depend on their place alone.
    pub fn samples(count: i64, place: i64, kind: Kind) -> Samples {
        let numbers = |size: &[i64], step: f64| {
            let n: i64 = size.iter().product();
            let values =
                Tensor::arange_start(place * 1000, place * 1000 + n, (Kind::Double, Device::Cpu));
            (values * step).sin().view(size).to_kind(kind)
        };
        let rows =
            Tensor::arange_start(place, place + count, (Kind::Int64, Device::Cpu)).remainder(5);
        (numbers(&[count, 4, 5, 5], 0.7), rows, numbers(&[count, 3], 1.3))
    }

    /// Two lots of samples as one.
    pub fn joined(a: &Samples, b: &Samples) -> Samples {
        let cat = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        (cat(&a.0, &b.0), cat(&a.1, &b.1), cat(&a.2, &b.2))
    }
}

/// Puts buffers of every kind under `root`, whose numbers depend on `seed`: some repeat themselves, one has no element.
pub fn buffers(root: &Path<'_>, seed: i64) {
    tch::manual_seed(seed);
    let real = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
    let whole = |kind| (real(&[3, 2]) * 100.0).to_kind(kind);
    for (name, tensor) in [
        ("repeated", real(&[3, 1, 2]).expand([3, 4, 2], false)),
        ("one", real(&[1]).expand([7], false)),
        ("turned", real(&[3, 2]).tr()),
        ("gaps", Layout::Gaps.of(&real(&[3, 2]))),
        ("complex", real(&[3, 2]).view_as_complex()),
        ("double", real(&[3]).to_kind(Kind::Double)),
        ("half", real(&[3]).to_kind(Kind::Half)),
        ("short", real(&[3]).to_kind(Kind::BFloat16)),
        ("int16", whole(Kind::Int16)),
        ("int8", whole(Kind::Int8)),
        ("int32", whole(Kind::Int)),
        ("count", whole(Kind::Int64).get(0).get(0)),
        ("flags", real(&[5]).gt(0.0)),
        ("empty", real(&[0, 3])),
    ] {
        let _ = root.add(name, tensor, false);
    }
}
