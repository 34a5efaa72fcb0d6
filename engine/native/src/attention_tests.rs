//! Attention against float64, and beside libtorch's own.
use crate::{Attentions, own_attentions, set_own_attention};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, Tensor};

/// The switch, the generator and the threads are the process's: one test at a time, where they share one.
fn alone() -> MutexGuard<'static, ()> {
    static SWITCH: Mutex<()> = Mutex::new(());
    SWITCH.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Masked {
    Nothing,
    Causal,
    /// Bool, the last keys of each sample.
    Padding,
    /// Float32, one number for each score.
    Bias,
    /// Of the queries' kind, the same for all samples and heads.
    Shared,
    /// Bool, with a query that may attend to nothing.
    Row,
}
use Masked::{Bias, Causal, Nothing, Padding, Row, Shared};

const MASKS: [Masked; 6] = [Nothing, Causal, Padding, Bias, Shared, Row];

/// How the inputs lie in memory.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// Views of one projection `[batch, time, 3, heads, width]`, as models have them, or of two.
    Projected,
    Contiguous,
    /// Columns apart, and the keys of all samples the same.
    Odd,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    /// Batch, heads, queries, keys, width, width of the values.
    sizes: [i64; 6],
    kind: Kind,
    masked: Masked,
    dropout: f64,
    layout: Layout,
    scale: Option<f64>,
}

const PLAIN: Case = Case {
    sizes: [1; 6],
    kind: Kind::Float,
    masked: Nothing,
    dropout: 0.0,
    layout: Layout::Contiguous,
    scale: None,
};

/// Sizes around those of the tiles, and one that two threads share.
const SIZES: [[i64; 6]; 6] = [
    [2, 2, 18, 7, 3, 3],
    [1, 2, 64, 64, 64, 64],
    [2, 1, 65, 63, 32, 32],
    [1, 3, 17, 130, 20, 36],
    [1, 2, 200, 70, 8, 24],
    [3, 4, 128, 128, 64, 64],
];

impl Case {
    fn inputs(&self) -> [Tensor; 3] {
        let [b, h, t, s, d, dv] = self.sizes;
        let draw = |rows: i64, columns: i64| {
            let (kind, cpu) = (self.kind, Device::Cpu);
            match self.layout {
                Layout::Projected => {
                    Tensor::randn([b, rows, h, columns], (kind, cpu)).transpose(1, 2)
                }
                Layout::Contiguous => Tensor::randn([b, h, rows, columns], (kind, cpu)),
                Layout::Odd => {
                    let odd = Tensor::randn([1, h, columns, rows], (kind, cpu)).transpose(2, 3);
                    odd.expand([b, h, rows, columns], false)
                }
            }
        };
        [draw(t, d), draw(s, d), draw(s, dv)]
    }

    fn mask(&self) -> Option<Tensor> {
        let [b, h, t, s, ..] = self.sizes;
        let cpu = Device::Cpu;
        match self.masked {
            Nothing | Causal => None,
            Padding => {
                let ends = Tensor::arange_start(s - b, s, (Kind::Int64, cpu)).view([b, 1, 1, 1]);
                Some(Tensor::arange(s, (Kind::Int64, cpu)).less_equal_tensor(&ends))
            }
            Bias => Some(Tensor::randn([b, h, t, s], (Kind::Float, cpu))),
            Shared => Some(Tensor::randn([t, s], (self.kind, cpu))),
            Row => {
                let rows = Tensor::arange(t, (Kind::Int64, cpu)).view([t, 1]);
                Some(rows.not_equal(t / 2).expand([t, s], false))
            }
        }
    }

    /// Which scores dropout keeps: with the same scores everywhere, and a unit vector for each key's value, the
    /// outputs are the weights.
    fn kept(&self) -> Option<Tensor> {
        (self.dropout > 0.0).then(|| {
            let [b, h, t, s, ..] = self.sizes;
            let float = (Kind::Float, Device::Cpu);
            let values = Tensor::eye(s, float).expand([b, h, s, s], false);
            let [q, k] = [t, s].map(|rows| Tensor::zeros([b, h, rows, 4], float));
            tch::manual_seed(7);
            attend(&q, &k, &values, None, self.dropout, false, None).greater(0.0)
        })
    }

    /// Output and gradients, as float64.
    fn run(&self, inputs: &[Tensor; 3], out: impl Fn([&Tensor; 3]) -> Tensor) -> [Tensor; 4] {
        let inputs = inputs.each_ref().map(|x| x.detach().set_requires_grad(true));
        tch::manual_seed(7);
        let y = out(inputs.each_ref());
        tch::manual_seed(8);
        let gradient = Tensor::randn(y.size(), (self.kind, Device::Cpu)).to_kind(y.kind());
        (&y * gradient).sum(y.kind()).backward();
        let [q, k, v] = inputs.map(|x| x.grad().to_kind(Kind::Double));
        [y.detach().to_kind(Kind::Double), q, k, v]
    }

    fn ours(&self, inputs: &[Tensor; 3], mask: Option<&Tensor>) -> [Tensor; 4] {
        set_own_attention(true).unwrap();
        let causal = self.masked == Causal;
        let before = own_attentions().unwrap();
        let found =
            self.run(inputs, |[q, k, v]| attend(q, k, v, mask, self.dropout, causal, self.scale));
        let after = own_attentions().unwrap();
        let once = Attentions { forwards: before.forwards + 1, backwards: before.backwards + 1 };
        assert_eq!(after, once, "{self:?} was not ours");
        found
    }

    fn libtorch(
        &self,
        inputs: &[Tensor; 3],
        mask: Option<&Tensor>,
        kept: Option<&Tensor>,
    ) -> [Tensor; 4] {
        set_own_attention(false).unwrap();
        let causal = self.masked == Causal;
        let p = self.dropout;
        self.run(inputs, |[q, k, v]| match kept {
            None => attend(q, k, v, mask, 0.0, causal, self.scale),
            Some(_) => {
                let (math, bias) =
                    (Tensor::internal_scaled_dot_product_attention_math, bias(mask, self.kind));
                math(q, k, v, bias.as_ref(), p, causal, kept, self.scale, false).0
            }
        })
    }

    fn exact(
        &self,
        inputs: &[Tensor; 3],
        mask: Option<&Tensor>,
        kept: Option<&Tensor>,
    ) -> [Tensor; 4] {
        let inputs = inputs.each_ref().map(|x| x.to_kind(Kind::Double));
        self.run(&inputs, |inputs| self.formula(inputs, mask, kept))
    }

    fn formula(
        &self,
        [q, k, v]: [&Tensor; 3],
        mask: Option<&Tensor>,
        kept: Option<&Tensor>,
    ) -> Tensor {
        let scale = self.scale.unwrap_or(1.0 / (self.sizes[4] as f64).sqrt());
        let mut scores = q.matmul(&k.transpose(2, 3)) * scale;
        if let Some(bias) = bias(mask, Kind::Double) {
            scores += bias;
        }
        if self.masked == Causal {
            let above = scores.ones_like().triu(1).to_kind(Kind::Bool);
            scores = scores.masked_fill(&above, f64::NEG_INFINITY);
        }
        let mut weights = Tensor::internal_safe_softmax(&scores, -1, None::<Kind>);
        if let Some(kept) = kept {
            weights = weights * kept / (1.0 - self.dropout);
        }
        weights.matmul(v)
    }
}

fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    dropout: f64,
    causal: bool,
    scale: Option<f64>,
) -> Tensor {
    Tensor::scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale, false)
}

/// A mask as what is added to the scores.
fn bias(mask: Option<&Tensor>, kind: Kind) -> Option<Tensor> {
    mask.map(|mask| match mask.kind() {
        Kind::Bool => {
            let none = Tensor::zeros(mask.size(), (kind, Device::Cpu));
            none.masked_fill(&mask.logical_not(), f64::NEG_INFINITY)
        }
        _ => mask.to_kind(kind),
    })
}

fn cases() -> impl Iterator<Item = Case> {
    let layouts = [Layout::Projected, Layout::Contiguous, Layout::Odd];
    let mut number = 0;
    SIZES.into_iter().flat_map(move |sizes| {
        let mut all = Vec::new();
        for kind in [Kind::Float, Kind::BFloat16] {
            for masked in MASKS {
                for dropout in [0.0, 0.1] {
                    number += 1;
                    let scale = [None, Some(0.2)][usize::from(number % 5 == 0)];
                    let layout = layouts[number % 3];
                    all.push(Case { sizes, kind, masked, dropout, layout, scale });
                }
            }
        }
        all
    })
}

fn relative_error(found: &Tensor, exact: &Tensor) -> f64 {
    let norm = |x: &Tensor| x.norm().double_value(&[]);
    norm(&(found - exact)) / norm(exact)
}

/// Output and gradients are as near to those in float64 as libtorch's are, whatever the shape, the mask, the
/// kind, the layout and the dropout; and the bits are the same for one thread and for two.
#[test]
fn attention_is_as_exact_as_libtorch_s() {
    let _alone = alone();
    let mut worst = std::collections::BTreeMap::new();
    for case in cases() {
        tch::set_num_threads(1);
        tch::manual_seed(3);
        let (inputs, mask) = (case.inputs(), case.mask());
        set_own_attention(true).unwrap();
        let (mask, kept) = (mask.as_ref(), case.kept());
        let ours = case.ours(&inputs, mask);
        tch::set_num_threads(2);
        let again = case.ours(&inputs, mask);
        assert!(
            ours.iter().zip(&again).all(|(a, b)| a.equal(b)),
            "{case:?}: one thread and two differ"
        );
        tch::set_num_threads(1);
        let theirs = case.libtorch(&inputs, mask, kept.as_ref());
        let exact = case.exact(&inputs, mask, kept.as_ref());
        for (i, name) in ["output", "queries", "keys", "values"].into_iter().enumerate() {
            let [ours, theirs] = [&ours, &theirs].map(|found| relative_error(&found[i], &exact[i]));
            // What the order of sums makes of the last digits.
            assert!(
                ours <= 1.05 * theirs + 1e-7,
                "{case:?}, {name}: {ours:e}, libtorch {theirs:e}"
            );
            let most: &mut [f64; 2] = worst.entry((format!("{:?}", case.kind), name)).or_default();
            *most = [most[0].max(ours), most[1].max(theirs)];
        }
    }
    for ((kind, name), [ours, theirs]) in worst {
        println!("{kind} {name}: largest relative error {ours:.2e}, libtorch's {theirs:.2e}");
    }
}

/// Rows that a mask of the smallest number empties have the gradients of a softmax over equal scores; those of
/// libtorch's kernel, which keeps a logarithm of the sum alone, are as many times too large as there are keys.
#[test]
fn queries_whose_scores_are_all_the_smallest_number_have_exact_gradients() {
    let _alone = alone();
    tch::manual_seed(1);
    let inputs = [(); 3].map(|()| Tensor::randn([1, 1, 70, 16], (Kind::Float, Device::Cpu)));
    let mask = Tensor::full([70, 70], f64::from(f32::MIN), (Kind::Float, Device::Cpu));
    let case = Case { sizes: [1, 1, 70, 70, 16, 16], ..PLAIN };
    let (ours, exact) = (case.ours(&inputs, Some(&mask)), case.exact(&inputs, Some(&mask), None));
    assert!(
        relative_error(&ours[0], &exact[0]) < 1e-6 && relative_error(&ours[3], &exact[3]) < 1e-6
    );
}

/// Not a number is where libtorch has it.
#[test]
fn not_a_number_is_where_libtorch_has_it() {
    let _alone = alone();
    for which in 0..3 {
        tch::manual_seed(1);
        let inputs = [(); 3].map(|()| Tensor::randn([1, 1, 70, 16], (Kind::Float, Device::Cpu)));
        let _ = inputs[which].get(0).get(0).get(5).get(3).fill_(f64::NAN);
        let case = Case { sizes: [1, 1, 70, 70, 16, 16], ..PLAIN };
        let (ours, theirs) = (case.ours(&inputs, None), case.libtorch(&inputs, None, None));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(ours.isnan().equal(&theirs.isnan()), "input {which}");
        }
        assert!(bool::try_from(ours[0].isnan().any()).unwrap());
    }
}

/// Gradients of gradients, for which libtorch's kernel has no formula.
#[test]
fn gradients_have_gradients() {
    let _alone = alone();
    let case = Case { sizes: [1, 2, 20, 20, 8, 8], ..PLAIN };
    for dropout in [0.0, 0.2] {
        let case = Case { dropout, ..case };
        set_own_attention(true).unwrap();
        let kept = case.kept();
        let twice = |kind: Kind| {
            tch::manual_seed(2);
            let x = Tensor::randn([1, 2, 20, 8], (Kind::Float, Device::Cpu)).to_kind(kind);
            let x = x.set_requires_grad(true);
            tch::manual_seed(7);
            let y = match kind {
                Kind::Float => attend(&x, &x, &x, None, dropout, false, None),
                _ => case.formula([&x, &x, &x], None, kept.as_ref()),
            };
            let first = Tensor::run_backward(&[y.square().sum(kind)], &[&x], true, true);
            first[0].square().sum(kind).backward();
            x.grad().to_kind(Kind::Double)
        };
        let before = own_attentions().unwrap().forwards;
        let error = relative_error(&twice(Kind::Float), &twice(Kind::Double));
        assert_eq!(own_attentions().unwrap().forwards, before + 1);
        assert!(error < 1e-5, "{dropout}: {error:e}");
    }
}

/// What our kernels do not know stays libtorch's, to the bit, and so does everything once they are off.
#[test]
fn the_rest_is_libtorch_s() {
    let _alone = alone();
    let draw = |sizes: &[i64], kind: Kind| {
        tch::manual_seed(4);
        Tensor::randn(sizes, (Kind::Float, Device::Cpu)).to_kind(kind)
    };
    let x = draw(&[2, 4, 19, 8], Kind::Float);
    let mask = draw(&[19, 19], Kind::Float).set_requires_grad(true);
    let calls: [(&str, &dyn Fn() -> Tensor); 7] = [
        ("few queries", &|| attend(&x.narrow(2, 0, 2), &x, &x, None, 0.0, false, None)),
        ("three dimensions", &|| {
            let x = draw(&[4, 19, 8], Kind::Float);
            attend(&x, &x, &x, None, 0.0, false, None)
        }),
        ("float16", &|| {
            let x = draw(&[2, 4, 19, 8], Kind::Half);
            attend(&x, &x, &x, None, 0.0, false, None)
        }),
        ("float64", &|| {
            let x = draw(&[2, 4, 19, 8], Kind::Double);
            attend(&x, &x, &x, None, 0.0, false, None)
        }),
        ("shared heads", &|| {
            let k = draw(&[2, 2, 19, 8], Kind::Float);
            let none = None::<&Tensor>;
            Tensor::scaled_dot_product_attention(&x, &k, &k, none, 0.0, false, None, true)
        }),
        ("a mask that wants a gradient", &|| attend(&x, &x, &x, Some(&mask), 0.0, false, None)),
        ("everything dropped", &|| attend(&x, &x, &x, None, 1.0, false, None)),
    ];
    for (name, call) in calls {
        let [ours, theirs] = [true, false].map(|on| {
            set_own_attention(on).unwrap();
            let before = own_attentions().unwrap();
            let y = call();
            assert_eq!(own_attentions().unwrap(), before, "{name}");
            y
        });
        assert!(ours.equal(&theirs), "{name}");
    }
    set_own_attention(false).unwrap();
    let before = own_attentions().unwrap();
    let _ = attend(&x, &x, &x, None, 0.1, false, None);
    assert_eq!(own_attentions().unwrap(), before);
}

/// The backward pass needs neither the output nor the caller's mask: both may be changed in place.
#[test]
fn what_is_changed_in_place_changes_no_gradient() {
    let _alone = alone();
    set_own_attention(true).unwrap();
    let x = Tensor::randn([2, 2, 32, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let gradient =
        |of: Tensor| Tensor::run_backward(&[of.square().sum(Kind::Float)], &[&x], false, false);
    let expected = gradient(attend(&x, &x, &x, None, 0.0, false, None) * 2.0);
    for way in 0..3 {
        let mut y = attend(&x, &x, &x, None, 0.0, false, None);
        let z = match way {
            0 => y.f_mul_scalar_(2.0),
            1 => y.transpose(1, 2).contiguous().view([2, 32, 16]).f_mul_scalar_(2.0),
            _ => y.transpose(1, 2).flatten(2, 3).f_mul_scalar_(2.0),
        };
        let found = gradient(z.unwrap_or_else(|e| panic!("way {way}: {e}")));
        assert!(found[0].allclose(&expected[0], 1e-5, 1e-5, false), "way {way}");
    }
    let mut mask = Tensor::ones([32, 32], (Kind::Bool, Device::Cpu));
    let y = attend(&x, &x, &x, Some(&mask), 0.0, false, None);
    let _ = mask.fill_(0);
    assert!(gradient(y * 2.0)[0].allclose(&expected[0], 1e-5, 1e-5, false), "mask");
}

/// The stride of an axis of one item says nothing, and may be anything.
#[test]
fn a_single_key_lies_anyhow() {
    let _alone = alone();
    let cpu = (Kind::Float, Device::Cpu);
    let keys = Tensor::randn([2, 4, 8, 1], cpu).transpose(2, 3).set_requires_grad(true);
    let q = Tensor::randn([2, 4, 32, 8], cpu).set_requires_grad(true);
    let run = |own| {
        set_own_attention(own).unwrap();
        let y = attend(&q, &keys, &keys, None, 0.0, false, None);
        let gradients = Tensor::run_backward(&[y.sum(Kind::Float)], &[&q, &keys], false, false);
        (y, gradients)
    };
    let ((ours, found), (theirs, expected)) = (run(true), run(false));
    assert!(ours.allclose(&theirs, 1e-6, 1e-6, false));
    assert!(found.iter().zip(&expected).all(|(a, b)| a.allclose(b, 1e-5, 1e-5, false)));
}

/// Masks of dropout follow from all bits of the seed, and a probability that is next to nothing drops nothing.
#[test]
fn every_bit_of_a_seed_matters_to_attention() {
    let _alone = alone();
    set_own_attention(true).unwrap();
    let x = Tensor::randn([1, 1, 64, 8], (Kind::Float, Device::Cpu));
    let drawn = |seed: u64, dropout| {
        tch::manual_seed(seed as i64);
        attend(&x, &x, &x, None, dropout, false, None)
    };
    let plain = drawn(5, 0.5);
    assert!(drawn(5, 0.5).equal(&plain));
    for bit in 0..64 {
        assert!(!drawn(5 ^ (1 << bit), 0.5).equal(&plain), "bit {bit}");
    }
    assert!(drawn(5, 1e-10).allclose(&drawn(5, 0.0), 1e-5, 1e-6, false));
}
