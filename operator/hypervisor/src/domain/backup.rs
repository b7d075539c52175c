//! A copy of one disk of a running guest, as it was at one moment.

/// How the copy of a disk stands, see [`Hypervisor::begin_backup`](crate::Hypervisor::begin_backup).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backup {
    /// There is none, and none that ended is remembered.
    None,
    /// It goes on.
    Running {
        /// Bytes that were copied.
        done: u64,
        /// Bytes that are to be copied in all; 0 while that is not known.
        total: u64,
    },
    /// The last one ended, and its file is whole.
    Finished,
    /// The last one ended before its file was whole, and why.
    Failed(String),
}

impl Backup {
    /// How much is done, in percent, if it goes on and that is known.
    pub fn percent(&self) -> Option<u8> {
        match self {
            Self::Running { done, total } if *total > 0 => {
                let percent = u128::from(*done) * 100 / u128::from(*total);
                Some(u8::try_from(percent.min(100)).unwrap_or(100))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_told_only_while_it_is_known_and_is_never_more_than_all() {
        let running = |done, total| Backup::Running { done, total }.percent();
        assert_eq!(
            (running(0, 0), running(1, 3), running(9, 3)),
            (None, Some(33), Some(100))
        );
        assert_eq!(running(u64::MAX, u64::MAX), Some(100));
        assert_eq!(Backup::Finished.percent(), None);
    }
}
