//! Watches a script's RayJob, and reports what it waits for.

use dagster_ray_sdk::{Error, clock::Clock, http::Http, model::JobRef, progress::ProgressListener};

use crate::{
    job::{pending::Reasons, status::RayJob},
    kubernetes::{
        Kubernetes, RAY_JOB, Selection,
        watch::{Change, Watch},
    },
};

const SLICE_MS: u64 = 200;
const STREAM_MS: u64 = 1_800_000;
/// The interval at which the head's pod is read while the cluster starts.
const REASONS_INTERVAL_MS: u64 = 10_000;

/// What a watch has seen of a RayJob.
pub(super) enum Seen {
    /// Nothing new.
    Nothing,
    /// The RayJob has changed. [`JobWatch::current`] returns it.
    Changed,
    /// The RayJob does not exist, with its last state if known.
    Deleted(Option<Box<RayJob>>),
}

/// A watch of a script's RayJob.
pub(super) struct JobWatch<'a, H, C, L> {
    kubernetes: &'a Kubernetes<H, C>,
    namespace: &'a str,
    watch: Watch<'a, H, C>,
    reference: &'a JobRef,
    listener: &'a L,
    current: Option<RayJob>,
    reported: String,
    reasons_at_ms: u64,
}

impl<'a, H: Http, C: Clock, L: ProgressListener> JobWatch<'a, H, C, L> {
    /// Creates a watch of the RayJob of this name. Sends no request until [`Self::next`].
    pub(super) fn new(
        kubernetes: &'a Kubernetes<H, C>,
        namespace: &'a str,
        name: &str,
        reference: &'a JobRef,
        listener: &'a L,
    ) -> Self {
        let watch = Watch::new(kubernetes, RAY_JOB, namespace, Selection::Name(name.to_owned()));
        let reasons_at_ms = kubernetes.clock().now_ms().saturating_add(REASONS_INTERVAL_MS);
        Self {
            kubernetes,
            namespace,
            watch,
            reference,
            listener,
            current: None,
            reported: String::new(),
            reasons_at_ms,
        }
    }

    /// Returns the RayJob, once it was seen.
    pub(super) fn current(&self) -> Option<&RayJob> {
        self.current.as_ref()
    }

    /// Waits up to [`SLICE_MS`] for a change, and reports why the job is pending.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the caller cancels, and errors of the API server that are not transient.
    pub(super) fn next(&mut self) -> Result<Seen, Error> {
        if self.listener.cancelled() {
            return Err(Error::Cancelled);
        }
        let seen = match self.watch.next(SLICE_MS, STREAM_MS)? {
            None => Seen::Nothing,
            Some(Change::Deleted(last)) => {
                return Ok(Seen::Deleted(last.map(|last| Box::new(RayJob::read(&last)))));
            }
            Some(Change::Updated(document)) => {
                self.current = Some(RayJob::read(&document));
                Seen::Changed
            }
        };
        let now = self.kubernetes.clock().now_ms();
        if now >= self.reasons_at_ms {
            self.reasons_at_ms = now.saturating_add(REASONS_INTERVAL_MS);
            self.report(&Reasons::read(self.kubernetes, self.namespace, self.current.iter()));
        } else if matches!(seen, Seen::Changed) {
            self.report(&Reasons::default());
        }
        Ok(seen)
    }

    fn report(&mut self, reasons: &Reasons) {
        let Some(job) = self.current.as_ref().filter(|job| !job.status().ended) else { return };
        let status = reasons.status_of(Some(job), self.reference);
        let text = status.message.unwrap_or_else(|| format!("{:?}", status.state));
        if text != self.reported {
            self.listener.progress(&text);
            self.reported = text;
        }
    }
}
