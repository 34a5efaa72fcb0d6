//! Masked sequences as tensors.

use tch::{Device, Tensor};

use crate::Masked;

/// A micro-batch for masked-language-model training.
#[derive(Debug)]
pub struct MlmBatch {
    /// What the model is shown: [batch, time], int64. There is no padding, hence no attention mask.
    pub ids: Tensor,
    /// Where the tokens to be guessed stand in `ids` seen flat, 0..batch * time, rising:
    /// `[masked]`, int64.
    pub positions: Tensor,
    /// The tokens to be guessed: `[masked]`, int64.
    pub labels: Tensor,
    /// Number of tokens to be guessed: what the loss is a mean over.
    pub count: i64,
}

impl MlmBatch {
    /// `samples` are all of one length.
    pub(crate) fn new(samples: &[Masked]) -> Self {
        let time = samples.first().map_or(0, |sample| sample.input.len());
        let mut ids = Vec::with_capacity(samples.len() * time);
        let (mut positions, mut labels) = (Vec::new(), Vec::new());
        for (row, sample) in samples.iter().enumerate() {
            ids.extend(sample.input.iter().map(|&id| i64::from(id)));
            positions.extend(sample.positions.iter().map(|&at| (row * time + at) as i64));
            labels.extend(sample.labels.iter().map(|&id| i64::from(id)));
        }
        Self {
            ids: Tensor::from_slice(&ids).view([samples.len() as i64, time as i64]),
            positions: Tensor::from_slice(&positions),
            labels: Tensor::from_slice(&labels),
            count: labels.len() as i64,
        }
    }

    /// The batch on another device; where it is there already, the same tensors.
    pub fn to_device(&self, device: Device) -> Self {
        Self {
            ids: self.ids.to_device(device),
            positions: self.positions.to_device(device),
            labels: self.labels.to_device(device),
            count: self.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_through_flat_positions() {
        let samples = [
            Masked { input: vec![1, 9, 3, 4], positions: vec![1], labels: vec![2] },
            Masked { input: vec![5, 6, 9, 9], positions: vec![0, 2, 3], labels: vec![5, 7, 8] },
        ];
        let batch = MlmBatch::new(&samples).to_device(Device::Cpu);
        assert_eq!(batch.ids.size(), [2, 4]);
        assert_eq!(Vec::<i64>::try_from(&batch.positions).unwrap(), [1, 4, 6, 7]);
        assert_eq!(Vec::<i64>::try_from(&batch.labels).unwrap(), [2, 5, 7, 8]);
        assert_eq!(batch.count, 4);
        let original = batch.ids.view(-1).index_copy(0, &batch.positions, &batch.labels);
        assert_eq!(Vec::<i64>::try_from(&original).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
