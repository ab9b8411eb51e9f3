//! The wasmtime store of one call, dropped when the call ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dagster_ray_policy::{Limits, LoadError, Policy};
use tokio::sync::Notify;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::capability::Denials;
use crate::capability::clock::ClockSpeed;
use crate::capability::http::HttpEgress;
use crate::capability::keyvalue::KeyValueState;
use crate::capability::kubernetes::{Cluster, Services};
use crate::capability::objects::{ObjectStore, ObjectsState};
use crate::capability::packages::PackagesState;
use crate::capability::processes::ProcessesState;
use crate::capability::tasks::TasksState;
use crate::host::Host;
use crate::report::ReportSender;

/// The cancellation flag of a call.
#[derive(Clone, Default)]
pub(crate) struct Cancel(Arc<(AtomicBool, Notify)>);

impl Cancel {
    pub(crate) fn cancel(&self) {
        self.0.0.store(true, Ordering::Release);
        self.0.1.notify_waiters();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }

    pub(crate) async fn cancelled(&self) {
        loop {
            let notified = self.0.1.notified();
            if self.is_cancelled() {
                return;
            }
            notified.await;
        }
    }
}

/// The state of one call.
pub(crate) struct CallState {
    pub(crate) component: String,
    pub(crate) table: ResourceTable,
    pub(crate) egress: HttpEgress,
    pub(crate) packages: PackagesState,
    pub(crate) objects: ObjectsState,
    pub(crate) keyvalue: KeyValueState,
    pub(crate) processes: ProcessesState,
    pub(crate) tasks: TasksState,
    /// The denials of all capabilities.
    pub(crate) denials: Denials,
    pub(crate) reports: ReportSender,
    pub(crate) cancel: Cancel,
    pub(crate) clock_speed: ClockSpeed,
    pub(crate) settings: WasiConfigVariables,
    pub(crate) stderr: MemoryOutputPipe,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    limits: StoreLimits,
}

/// The call-specific parts of [`CallState`].
pub(crate) struct CallContext<'a> {
    pub(crate) component: &'a str,
    pub(crate) limits: &'a Limits,
    pub(crate) policy: Arc<Policy>,
    pub(crate) settings: &'a [(String, String)],
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) services: Services,
    pub(crate) stores: BTreeMap<String, Arc<dyn ObjectStore>>,
    pub(crate) buckets: BTreeMap<String, Option<PathBuf>>,
    pub(crate) reports: ReportSender,
    pub(crate) cancel: Cancel,
}

/// Maximum size of the headers of one HTTP message, in bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Maximum length of one random request, in bytes.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// Returns a WASI context without environment, arguments, directories, sockets and name lookups.
///
/// These are wasmtime's defaults. The network is denied explicitly, so that a changed default cannot
/// open it.
fn isolated() -> WasiCtxBuilder {
    let mut wasi = WasiCtx::builder();
    wasi.allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .socket_addr_check(|_, _| Box::pin(async { false }));
    wasi
}

pub(crate) fn new_store(host: &Host, context: CallContext<'_>) -> Result<Store<CallState>, LoadError> {
    let limits = context.limits;
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles as usize);
    let stderr = MemoryOutputPipe::new((limits.stderr_kib as usize) << 10);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(MAX_HEADER_BYTES);
    let denials = Denials::default();
    let state = CallState {
        component: context.component.to_owned(),
        table,
        egress: HttpEgress {
            policy: context.policy.clone(),
            clients: host.clients().clone(),
            cluster: context.cluster,
            services: context.services,
            pipeline: host.pipeline().clone(),
            response_bytes: u64::from(limits.response_mib) << 20,
            request_bytes: u64::from(limits.request_mib) << 20,
            denials: denials.clone(),
        },
        packages: PackagesState { policy: context.policy.clone() },
        objects: ObjectsState { stores: context.stores },
        keyvalue: KeyValueState { buckets: context.buckets, denials: denials.clone() },
        processes: ProcessesState {
            component: context.component.to_owned(),
            policy: context.policy,
            programs: host.programs().clone(),
        },
        tasks: TasksState,
        denials,
        reports: context.reports,
        cancel: context.cancel,
        clock_speed: host.clock_speed(),
        settings: context.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        wasi: isolated().stderr(stderr.clone()).max_random_size(MAX_RANDOM_BYTES).build(),
        stderr,
        http,
        limits: store_limits(limits),
    };
    let mut store = Store::new(host.engine(), state);
    store.limiter(|state| &mut state.limits);
    store.set_hostcall_fuel((limits.transfer_mib as usize) << 20);
    // A busy guest yields at each tick, so that its deadline and cancellation take effect.
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    Ok(store)
}

fn store_limits(limits: &Limits) -> StoreLimits {
    let count = limits.instances as usize;
    StoreLimitsBuilder::new()
        .memory_size((limits.memory_mib as usize) << 20)
        .table_elements(limits.table_elements as usize)
        .instances(count)
        .tables(count)
        .memories(count)
        // A guest that cannot grow its memory usually aborts without a message. A trap has one.
        .trap_on_grow_failure(true)
        .build()
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for CallState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.egress, table: &mut self.table, ctx: &mut self.http }
    }
}
