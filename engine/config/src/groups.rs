//! Parameter groups: which parameters share which options.

/// What a parameter group may set for itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupOptions {
    /// Learning rate that the schedule starts from.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether the optimizer treats each of these parameters as a whole, where it has such a rule:
    /// LAMB's ratio of norms, Muon's orthogonal updates.
    pub adapt: bool,
}

/// Parameters that share their options.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What the group sets.
    pub options: GroupOptions,
    /// Names of its parameters.
    pub parameters: Vec<String>,
}
