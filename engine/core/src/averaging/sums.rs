//! What an evaluation comes to.

/// A rank's part in an evaluation, or the sum of all.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Sums {
    /// Mean losses, each times what it is a mean over.
    pub loss: f64,
    /// What was counted.
    pub count: u64,
    /// Ranks that left out the rest, since they were asked to stop.
    pub cut: u64,
    /// Ranks that failed.
    pub failed: u64,
    /// The sum of their numbers: where one failed, which.
    pub failed_ranks: u64,
}

impl Sums {
    /// Takes note that `rank` failed.
    pub fn fail(&mut self, rank: usize) {
        (self.failed, self.failed_ranks) = (1, rank as u64);
    }

    /// Who failed, in words, if a rank did.
    pub fn who_failed(&self) -> Option<String> {
        match self.failed {
            0 => None,
            1 => Some(format!("rank {}", self.failed_ranks)),
            many => Some(format!("{many} ranks")),
        }
    }

    pub(super) fn numbers(&self) -> [f64; 5] {
        let Sums { loss, count, cut, failed, failed_ranks } = *self;
        [loss, count as f64, cut as f64, failed as f64, failed_ranks as f64]
    }

    pub(super) fn read(numbers: &[f64]) -> Self {
        let whole = |at: usize| numbers[at] as u64;
        Sums {
            loss: numbers[0],
            count: whole(1),
            cut: whole(2),
            failed: whole(3),
            failed_ranks: whole(4),
        }
    }
}
