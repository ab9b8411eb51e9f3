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

use crate::capability::clock::Pace;
use crate::capability::http::Egress;
use crate::capability::kubernetes::{Cluster, Services};
use crate::capability::objects::ObjectStore;
use crate::capability::processes::Programs;
use crate::host::Host;
use crate::notice::Reports;

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
pub(crate) struct State {
    pub(crate) component: String,
    pub(crate) table: ResourceTable,
    pub(crate) egress: Egress,
    pub(crate) programs: Programs,
    pub(crate) stores: BTreeMap<String, Arc<dyn ObjectStore>>,
    /// The granted buckets, with their directories if configured.
    pub(crate) buckets: BTreeMap<String, Option<PathBuf>>,
    pub(crate) reports: Reports,
    pub(crate) cancel: Cancel,
    pub(crate) pace: Pace,
    pub(crate) settings: WasiConfigVariables,
    pub(crate) stderr: MemoryOutputPipe,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    limits: StoreLimits,
}

/// The call-specific parts of [`State`].
pub(crate) struct Ingredients<'a> {
    pub(crate) component: &'a str,
    pub(crate) limits: &'a Limits,
    pub(crate) policy: Arc<Policy>,
    pub(crate) settings: &'a [(String, String)],
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) services: Services,
    pub(crate) stores: BTreeMap<String, Arc<dyn ObjectStore>>,
    pub(crate) buckets: BTreeMap<String, Option<PathBuf>>,
    pub(crate) reports: Reports,
    pub(crate) cancel: Cancel,
}

/// Maximum size of the headers of one HTTP message, in bytes.
const HEADERS: usize = 64 << 10;
/// Maximum length of one random request, in bytes.
const RANDOM: u64 = 64 << 10;

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

pub(crate) fn make(host: &Host, from: Ingredients<'_>) -> Result<Store<State>, LoadError> {
    let limits = from.limits;
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles as usize);
    let stderr = MemoryOutputPipe::new((limits.stderr_kib as usize) << 10);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(HEADERS);
    let state = State {
        component: from.component.to_owned(),
        table,
        egress: Egress {
            policy: from.policy,
            clients: host.clients().clone(),
            cluster: from.cluster,
            services: from.services,
            door: host.door().clone(),
            response_bytes: u64::from(limits.response_mib) << 20,
            request_bytes: u64::from(limits.request_mib) << 20,
            denials: Default::default(),
        },
        programs: host.programs().clone(),
        stores: from.stores,
        buckets: from.buckets,
        reports: from.reports,
        cancel: from.cancel,
        pace: host.pace(),
        settings: from.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        wasi: isolated().stderr(stderr.clone()).max_random_size(RANDOM).build(),
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

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.egress, table: &mut self.table, ctx: &mut self.http }
    }
}
