//! The exit codes of the command, and the errors that select them.

use std::process::ExitCode;

use dagster_ray_registry::RegistryError;
use dagster_ray_runtime::{CallError, LoadError};

/// Shown under every `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    failure
  2    usage error
  3    the component cannot be loaded
  4    the component returned an error or trapped
  130  interrupted";

/// The outcome of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Done,
    /// Failure.
    Failed,
    /// A usage error.
    Usage,
    /// The component cannot be loaded.
    Load,
    /// The component returned an error or trapped.
    Component,
    /// The user pressed Ctrl-C.
    Interrupted,
}

impl Exit {
    /// Returns the exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Load => 3,
            Self::Component => 4,
            Self::Interrupted => 130,
        }
    }

    /// Returns the outcome of an error, from the first known cause.
    pub(crate) fn from_error(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if cause.is::<Usage>() {
                return Self::Usage;
            }
            if cause.is::<Interrupted>() {
                return Self::Interrupted;
            }
            if let Some(error) = cause.downcast_ref::<RegistryError>() {
                return match error {
                    RegistryError::InvalidReference { .. }
                    | RegistryError::NoDigest { .. }
                    | RegistryError::DigestInPush { .. } => Self::Usage,
                    RegistryError::Load(_)
                    | RegistryError::NotAComponent { .. }
                    | RegistryError::Digest { .. } => Self::Load,
                    _ => Self::Failed,
                };
            }
            if cause.is::<LoadError>() || cause.is::<Refused>() {
                return Self::Load;
            }
            match cause.downcast_ref::<CallError>() {
                Some(CallError::Load(_)) => return Self::Load,
                Some(CallError::Arguments { .. }) => return Self::Usage,
                Some(_) => return Self::Component,
                None => {}
            }
        }
        Self::Failed
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// A usage error. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A component that cannot be loaded, with the command's own message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// The user pressed Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_with_context_keeps_its_exit_code() {
        let error = anyhow::Error::from(Usage("x".into())).context("while reading");
        assert_eq!(Exit::from_error(&error), Exit::Usage);
        let load = CallError::Load(LoadError::Engine("x".into()));
        assert_eq!(Exit::from_error(&anyhow::Error::from(load).context("calling")), Exit::Load);
        assert_eq!(Exit::from_error(&anyhow::anyhow!("the disk is full")), Exit::Failed);
    }
}
