//! Many processes as one.
use crate::error::Result;
use crate::gradients::Gradients;

/// The processes that train one model together.
pub trait Communicator: Send {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn world_size(&self) -> usize;

    /// Replaces every gradient by its mean over the ranks.
    ///
    /// # Errors
    /// If a peer is gone or too late.
    fn average(&mut self, gradients: &mut Gradients<'_>) -> Result<()>;
}

/// A world of one: every collective is the identity.
#[derive(Debug, Clone, Copy, Default)]
pub struct Solo;

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn average(&mut self, _gradients: &mut Gradients<'_>) -> Result<()> {
        Ok(())
    }
}
