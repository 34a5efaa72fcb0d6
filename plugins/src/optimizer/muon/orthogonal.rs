//! Matrices made nearly orthogonal, without a decomposition.
use tch::{TchError, Tensor};

/// Of x, x^3 and x^5 in the polynomial that each step applies to the singular values. Small ones grow
/// fast, and all end between about 0.7 and 1.2, which serves as well as 1.
const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// Least norm that a matrix is divided by.
const LEAST_NORM: f64 = 1e-7;

/// The nearest orthogonal matrices to `matrices`, or of orthogonal rows or columns where they are not
/// square, by Newton-Schulz steps: U V^T for the decomposition U S V^T, roughly (Jordan et al. 2024,
/// <https://kellerjordan.github.io/posts/muon/>). A matrix of zeros stays one.
///
/// `matrices`: [count, rows, columns]. Returns that shape, in the same number format.
///
/// # Errors
/// If libtorch refuses the tensors.
pub fn orthogonal(matrices: &Tensor, steps: u32) -> Result<Tensor, TchError> {
    let (a, b, c) = COEFFICIENTS;
    let size = matrices.size();
    let tall = size[1] > size[2];
    // The products of rows with rows are fewer in a matrix that is wider than tall.
    let wide = if tall { matrices.f_transpose(1, 2)? } else { matrices.shallow_clone() };
    let norms = wide.f_norm_scalaropt_dim(2, [1, 2], true)?.f_clamp_min(LEAST_NORM)?;
    let mut x = wide.f_div(&norms)?;
    for _ in 0..steps {
        let products = x.f_bmm(&x.f_transpose(1, 2)?)?;
        let polynomial = products.f_baddbmm(&products, &products, b, c)?;
        x = x.f_baddbmm(&polynomial, &x, a, 1.0)?;
    }
    if tall { x.f_transpose(1, 2) } else { Ok(x) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

    fn polynomial(x: f64) -> f64 {
        3.4445 * x - 4.7750 * x.powi(3) + 2.0315 * x.powi(5)
    }

    fn apart(x: &Tensor, y: &Tensor) -> f64 {
        (x - y).abs().max().double_value(&[])
    }

    /// A diagonal matrix stays one, and its elements go through the polynomial each on its own; and so
    /// do the singular values of a matrix that is turned on both sides, and of one with more columns.
    #[test]
    fn steps_act_on_singular_values() {
        tch::manual_seed(4);
        let values = Tensor::from_slice(&[3.0, 4.0]);
        let expected = [0.6, 0.8].map(|x| (0..3).fold(x, |x, _| polynomial(x)));
        let expected = Tensor::from_slice(&expected);
        let turn = |n: i64| Tensor::linalg_qr(&Tensor::randn([n, n], DOUBLE), "reduced").0;
        let (left, right) = (turn(2), turn(5).narrow(0, 0, 2));
        for (u, v) in [(Tensor::eye(2, DOUBLE), turn(2)), (left, right)] {
            let of = |s: &Tensor| u.matmul(&s.diag(0)).matmul(&v).unsqueeze(0);
            let found = orthogonal(&of(&values), 3).unwrap();
            assert!(apart(&found, &of(&expected)) < 1e-12);
            let found = orthogonal(&of(&values).transpose(1, 2), 3).unwrap();
            assert!(apart(&found, &of(&expected).transpose(1, 2)) < 1e-12);
        }
    }

    #[test]
    fn five_steps_bring_all_singular_values_near_one() {
        tch::manual_seed(5);
        for (kind, slack) in [(Kind::Float, 0.0), (Kind::BFloat16, 0.02)] {
            let matrices = Tensor::randn([4, 48, 16], (Kind::Float, Device::Cpu)).to_kind(kind);
            let found = orthogonal(&matrices, 5).unwrap();
            assert_eq!(found.kind(), kind);
            let values = found.to_kind(Kind::Float).svd(true, true).1;
            let (least, most) = (values.min().double_value(&[]), values.max().double_value(&[]));
            assert!(least > 0.67 - slack && most < 1.21 + slack, "{kind:?}: {least} to {most}");
        }
    }

    #[test]
    fn matrices_of_a_batch_do_not_mix_and_zeros_stay() {
        tch::manual_seed(6);
        let one = Tensor::randn([1, 3, 4], DOUBLE);
        let batch = Tensor::cat(&[&one, &one.zeros_like(), &(&one * 7.0)], 0);
        let found = orthogonal(&batch, 5).unwrap();
        assert!(apart(&found.get(0), &found.get(2)) < 1e-12);
        assert_eq!(found.get(1), Tensor::zeros([3, 4], DOUBLE));
    }
}
