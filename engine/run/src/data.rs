//! Where the batches of a run come from.
use trainyard::BoxError;
use trainyard_data::{ArrayBatch, ArrayData, BatchShape, MlmBatch, MlmData, Suspect};

/// Batches, made as they are asked for. An error is the last item.
pub type Batches<T> = Box<dyn Iterator<Item = Result<T, BoxError>>>;

/// What a run trains on and is evaluated on: a text, arrays, or a user's own.
pub trait Data {
    /// A micro-batch.
    type Batch;

    /// Samples to train on, of all ranks.
    fn training_samples(&self) -> usize;

    /// Samples to validate on, of all ranks.
    fn validation_samples(&self) -> usize;

    /// The micro-batches of every optimizer step from `start_step` (from 0) on, this rank's, without end. Step n is
    /// the same whatever the start.
    ///
    /// # Errors
    /// The shape is impossible, there is less than one batch, or the system gives no thread.
    fn training(
        &self,
        shape: BatchShape,
        start_step: u64,
    ) -> Result<Batches<Vec<Self::Batch>>, BoxError>;

    /// This rank's share of the validation samples, `shape.micro_batch` at a time, always the same.
    ///
    /// # Errors
    /// The shape is impossible.
    fn validation(&self, shape: BatchShape) -> Result<Batches<Self::Batch>, BoxError>;

    /// What tells this data from other data, for ranks to compare; none if nothing does.
    fn fingerprint(&self) -> Option<String> {
        None
    }

    /// What is not finite in the batches of a step whose loss is not, as a sentence.
    fn not_finite(&self, batches: &[Self::Batch]) -> Option<String> {
        let _ = batches;
        None
    }
}

impl Data for MlmData {
    type Batch = MlmBatch;

    fn training_samples(&self) -> usize {
        self.training_sequences()
    }

    fn validation_samples(&self) -> usize {
        self.validation_sequences()
    }

    fn training(
        &self,
        shape: BatchShape,
        start_step: u64,
    ) -> Result<Batches<Vec<MlmBatch>>, BoxError> {
        let batches = self.train_batches(shape, start_step)?;
        Ok(Box::new(batches.map(|batch| batch.map_err(Into::into))))
    }

    fn validation(&self, shape: BatchShape) -> Result<Batches<MlmBatch>, BoxError> {
        Ok(Box::new(self.validation_batches(shape.micro_batch, shape.share)?.map(Ok)))
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.fingerprint())
    }
}

impl Data for ArrayData {
    type Batch = ArrayBatch;

    fn training_samples(&self) -> usize {
        self.training_samples()
    }

    fn validation_samples(&self) -> usize {
        self.validation_samples()
    }

    fn training(
        &self,
        shape: BatchShape,
        start_step: u64,
    ) -> Result<Batches<Vec<ArrayBatch>>, BoxError> {
        let batches = self.train_batches(shape, start_step)?;
        Ok(Box::new(batches.map(|batch| batch.map_err(Into::into))))
    }

    fn validation(&self, shape: BatchShape) -> Result<Batches<ArrayBatch>, BoxError> {
        let batches = self.validation_batches(shape.micro_batch, shape.share)?;
        Ok(Box::new(batches.map(|batch| batch.map_err(Into::into))))
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.fingerprint())
    }

    fn not_finite(&self, batches: &[ArrayBatch]) -> Option<String> {
        let mut found = batches.iter().map(|batch| self.not_finite(batch));
        let found = found.find(|found| !found.is_empty())?;
        let listed: Vec<_> = found.iter().map(Suspect::to_string).collect();
        Some(format!("the data of this step is not finite: {}", listed.join(", ")))
    }
}
