//! Forwards a local port to a Service of the cluster, for protocols other than HTTP, such as Ray Client.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::cluster::Cluster;
use super::failure::Failure;
use super::peer::{self, Peer};
use super::stream;
use dagster_ray_policy::kubernetes::ServiceName;

/// How long an accepted connection waits for a ready pod: long enough to replace a Ray head.
const MAX_WAIT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A local port that forwards to a Service. Only the user of this process can use it. Dropping it closes the
/// port and its connections.
#[derive(Debug)]
pub struct Forward {
    port: u16,
    task: JoinHandle<()>,
}

impl Forward {
    /// Returns the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a local port. The Service must exist. Each connection to the port gets its own stream to a pod
/// that is ready at that moment.
pub(crate) async fn open(cluster: Arc<Cluster>, service: ServiceName, port: u16) -> Result<Forward, Failure> {
    // Fail now with a reason, not later with a broken connection.
    drop(stream::open(&cluster, &service, port).await?);
    let host = |error: io::Error| Failure::Host(format!("no local port can be opened: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(host)?;
    let local = listener.local_addr().map_err(host)?.port();
    let task = tokio::spawn(serve(listener, cluster, service, port));
    Ok(Forward { port: local, task })
}

async fn serve(listener: TcpListener, cluster: Arc<Cluster>, service: ServiceName, port: u16) {
    // Dropping the set with the task ends the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((local, peer)) => {
                    let (cluster, service) = (cluster.clone(), service.clone());
                    connections.spawn(async move {
                        if is_own(&local, peer, &service).await {
                            relay(local, &cluster, &service, port).await;
                        }
                    });
                }
                // Errors such as too many open files are transient.
                Err(error) => {
                    tracing::warn!("port-forward to {service}: {error}");
                    tokio::time::sleep(LONGEST_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Returns whether the user of this process has opened a connection. The port is on loopback, and leads to the
/// pod without a password.
async fn is_own(local: &TcpStream, peer: SocketAddr, service: &ServiceName) -> bool {
    let (SocketAddr::V4(peer), Ok(SocketAddr::V4(address))) = (peer, local.local_addr()) else {
        return false;
    };
    let looked_up = tokio::task::spawn_blocking(move || peer::of(peer, address)).await;
    match looked_up.unwrap_or(Peer::Gone) {
        Peer::Own => true,
        Peer::Gone => false,
        Peer::Other(user) => {
            tracing::warn!("port-forward to {service}: refused a connection of the user {user}");
            false
        }
        Peer::Unknown => {
            tracing::warn!(
                "port-forward to {service}: any local user can connect, because /proc/net/tcp cannot be read"
            );
            true
        }
    }
}

/// Copies bytes until one side ends. Port-forwards do not support half-closed connections, so the end of
/// one direction ends both.
async fn relay(local: TcpStream, cluster: &Cluster, service: &ServiceName, port: u16) {
    let remote = match open_with_retries(cluster, service, port).await {
        Ok(remote) => remote,
        Err(failure) => {
            tracing::warn!("port-forward to {service}:{port}: {failure}");
            return;
        }
    };
    let _ = local.set_nodelay(true);
    let (mut from_local, mut to_local) = local.into_split();
    let (mut from_remote, mut to_remote) = split(remote);
    let ended = tokio::select! {
        sent = copy(&mut from_local, &mut to_remote) => sent,
        received = copy(&mut from_remote, &mut to_local) => received,
    };
    if let Err(error) = ended {
        tracing::debug!("port-forward to {service}:{port} ended: {error}");
    }
    let _ = to_remote.shutdown().await;
    let _ = to_local.shutdown().await;
}

/// Opens a stream, and retries transient failures.
async fn open_with_retries(
    cluster: &Cluster,
    service: &ServiceName,
    port: u16,
) -> Result<stream::Stream, Failure> {
    let deadline = tokio::time::Instant::now() + MAX_WAIT;
    let mut pause = FIRST_PAUSE;
    loop {
        let failure = match stream::open(cluster, service, port).await {
            Ok(stream) => return Ok(stream),
            Err(failure) => failure,
        };
        if !failure.is_transient() || tokio::time::Instant::now() + pause > deadline {
            return Err(failure);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
