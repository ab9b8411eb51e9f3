//! A byte stream to a pod: a TCP connection inside the cluster, a port-forward outside.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::{Connected, Connection};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use super::cluster::{Access, Cluster};
use super::endpoints;
use super::failure::Failure;
use dagster_ray_policy::address::{AllowedNetworks, Network};
use dagster_ray_policy::kubernetes::ServiceName;
use dagster_ray_policy::kubernetes::rbac::{FORWARD, GET_POD};

/// Maximum time to connect inside the cluster.
const CONNECT: Duration = Duration::from_secs(10);
/// Maximum time for a port-forward: three look-ups and the connection.
const OPEN: Duration = Duration::from_secs(30);

type Complaint = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// A stream to one port of one pod.
pub(crate) enum Stream {
    Direct(TcpStream),
    Forwarded {
        bytes: DuplexStream,
        /// The node's error message if the port cannot be used, for example because no process listens.
        complaint: Option<Complaint>,
    },
}

/// Opens a stream to a ready pod of a Service.
pub(super) async fn open(cluster: &Cluster, service: &ServiceName, port: u16) -> Result<Stream, Failure> {
    let access = cluster.access().await?;
    if access.is_inside()
        && let Some(stream) = direct(service, port).await
    {
        return stream;
    }
    let opened = match tokio::time::timeout(OPEN, forward(&access, service, port)).await {
        Ok(opened) => opened,
        Err(_) => {
            let problem = format!("no port-forward to {service}:{port} within {} s", OPEN.as_secs());
            Err(Failure::Unreachable { location: access.location.clone(), problem })
        }
    };
    if let Err(failure) = &opened {
        cluster.forget_if_stale(&access, failure).await;
    }
    opened
}

/// Connects by the Service's name. Returns none if the name cannot be resolved.
async fn direct(service: &ServiceName, port: u16) -> Option<Result<Stream, Failure>> {
    let found = tokio::net::lookup_host((service.host(), port)).await.ok()?;
    // An ExternalName Service can resolve to any address. Pods have private addresses.
    let allowed = AllowedNetworks::new([Network::Private]);
    let addresses: Vec<_> = found.filter(|address| allowed.allows(address.ip())).collect();
    if addresses.is_empty() {
        return None;
    }
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(addresses.as_slice())).await;
    let problem = match connected {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            return Some(Ok(Stream::Direct(stream)));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no connection within {} s", CONNECT.as_secs()),
    };
    Some(Err(Failure::NotListening { address: format!("{service}:{port}"), problem }))
}

async fn forward(access: &Access, service: &ServiceName, port: u16) -> Result<Stream, Failure> {
    access.audit();
    let endpoint = endpoints::ready(access, service, port).await?;
    let pods = Api::<Pod>::namespaced(access.client.clone(), &service.namespace);
    let found = pods
        .get(&endpoint.pod)
        .await
        .map_err(|error| endpoints::refused(access, &error, &service.namespace, &[GET_POD]))?;
    // The node forwards to its own loopback interface then, where the kubelet and others listen.
    if found.spec.and_then(|spec| spec.host_network).unwrap_or_default() {
        let (location, namespace) = (access.location.clone(), service.namespace.clone());
        return Err(Failure::HostNetwork { location, pod: endpoint.pod, namespace });
    }
    let mut forwarder = pods
        .portforward(&endpoint.pod, &[endpoint.port])
        .await
        .map_err(|error| endpoints::refused(access, &error, &service.namespace, &[FORWARD]))?;
    let complaint = forwarder.take_error(endpoint.port);
    let bytes = forwarder
        .take_stream(endpoint.port)
        .ok_or_else(|| Failure::Host("the port-forward has no stream".into()))?;
    tracing::debug!(pod = endpoint.pod, port = endpoint.port, "port-forward for {}", service.host());
    Ok(Stream::Forwarded { bytes, complaint: complaint.map(|message| Box::pin(message) as Complaint) })
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Direct(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Forwarded { bytes, complaint } => {
                if let Some(message) = complaint
                    && let Poll::Ready(text) = message.as_mut().poll(cx)
                {
                    *complaint = None;
                    if let Some(text) = text {
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, text)));
                    }
                }
                Pin::new(bytes).poll_read(cx, buffer)
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Direct(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Forwarded { bytes: stream, .. } => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Direct(stream) => Pin::new(stream).poll_flush(cx),
            Self::Forwarded { bytes, .. } => Pin::new(bytes).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Direct(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Forwarded { bytes, .. } => Pin::new(bytes).poll_shutdown(cx),
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
