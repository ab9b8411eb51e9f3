//! Forwards the operations that a client changes nothing of to the client that it wraps.

/// Implements the named operations of [`RayJobs`](crate::RayJobs) by those of a field.
///
/// ```ignore
/// impl<J: RayJobs> RayJobs for Audited<J> {
///     dagster_ray_jobs::forward!(jobs: limited, version, get, list, …);
///
///     fn submit(&self, job: &Submission) -> Result<String, Error> { … }
/// }
/// ```
#[macro_export]
macro_rules! forward {
    (@ $jobs:ident limited) => {
        fn limited(
            self,
            policy: ::dagster_ray_sdk::retry::Policy,
            timeouts: Option<::dagster_ray_sdk::http::Timeouts>,
        ) -> Self {
            Self { $jobs: self.$jobs.limited(policy, timeouts), ..self }
        }
    };
    (@ $jobs:ident version) => {
        fn version(&self) -> Result<$crate::Version, ::dagster_ray_sdk::Error> {
            self.$jobs.version()
        }
    };
    (@ $jobs:ident submit) => {
        fn submit(&self, job: &$crate::Submission) -> Result<String, ::dagster_ray_sdk::Error> {
            self.$jobs.submit(job)
        }
    };
    (@ $jobs:ident get) => {
        fn get(&self, submission_id: &str) -> Result<$crate::Job, ::dagster_ray_sdk::Error> {
            self.$jobs.get(submission_id)
        }
    };
    (@ $jobs:ident list) => {
        fn list(&self) -> Result<Vec<$crate::Job>, ::dagster_ray_sdk::Error> {
            self.$jobs.list()
        }
    };
    (@ $jobs:ident get_many) => {
        fn get_many(&self, ids: &[String]) -> Vec<Result<$crate::Job, ::dagster_ray_sdk::Error>> {
            self.$jobs.get_many(ids)
        }
    };
    (@ $jobs:ident are_nodes_dead) => {
        fn are_nodes_dead(&self, ids: &[String]) -> Vec<Result<bool, ::dagster_ray_sdk::Error>> {
            self.$jobs.are_nodes_dead(ids)
        }
    };
    (@ $jobs:ident stop_many) => {
        fn stop_many(&self, ids: &[String]) -> Vec<Result<bool, ::dagster_ray_sdk::Error>> {
            self.$jobs.stop_many(ids)
        }
    };
    (@ $jobs:ident delete) => {
        fn delete(&self, id: &str) -> Result<bool, ::dagster_ray_sdk::Error> {
            self.$jobs.delete(id)
        }
    };
    (@ $jobs:ident delete_many) => {
        fn delete_many(&self, ids: &[String]) -> Vec<Result<bool, ::dagster_ray_sdk::Error>> {
            self.$jobs.delete_many(ids)
        }
    };
    (@ $jobs:ident logs) => {
        fn logs(&self, id: &str) -> Result<String, ::dagster_ray_sdk::Error> {
            self.$jobs.logs(id)
        }
    };
    (@ $jobs:ident follow_logs) => {
        fn follow_logs(
            &self,
            id: &str,
            follow: &$crate::logs::FollowOptions,
            next: &mut dyn FnMut() -> $crate::logs::FollowAction,
            deliver: &mut dyn FnMut(Vec<Vec<u8>>),
        ) -> Result<$crate::logs::FollowResult, ::dagster_ray_sdk::Error> {
            self.$jobs.follow_logs(id, follow, next, deliver)
        }
    };
    (@ $jobs:ident prepare_runtime_env) => {
        fn prepare_runtime_env(
            &self,
            env: ::dagster_ray_sdk::json::Value,
        ) -> Result<::dagster_ray_sdk::json::Value, ::dagster_ray_sdk::Error> {
            self.$jobs.prepare_runtime_env(env)
        }
    };
    (@ $jobs:ident dashboard_url) => {
        fn dashboard_url(&self, id: &str) -> String {
            self.$jobs.dashboard_url(id)
        }
    };
    ($jobs:ident: $($operation:ident),+ $(,)?) => {
        $( $crate::forward!(@ $jobs $operation); )+
    };
}
