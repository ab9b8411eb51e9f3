//! The interfaces of the contract.

/// An interface of the contract that a component can export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interface {
    /// Describes the component.
    Describe,
    /// Launches runs.
    Launcher,
    /// Executes steps.
    Executor,
    /// Manages clusters.
    Cluster,
    /// Runs external scripts.
    Pipes,
    /// Removes what has outlived its run.
    Reconciler,
    /// Stores values.
    Io,
}

impl Interface {
    /// Every interface.
    pub const ALL: [Self; 7] = [
        Self::Describe,
        Self::Launcher,
        Self::Executor,
        Self::Cluster,
        Self::Pipes,
        Self::Reconciler,
        Self::Io,
    ];

    /// Returns the interface's name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Launcher => "launcher",
            Self::Executor => "executor",
            Self::Cluster => "cluster",
            Self::Pipes => "pipes",
            Self::Reconciler => "reconciler",
            Self::Io => "io",
        }
    }
}
