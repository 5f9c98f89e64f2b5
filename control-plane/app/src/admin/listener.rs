//! Where the admin interface listens: socket files and loopback.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use axum::Router;
use tokio::net::{TcpListener, UnixListener};

use crate::settings::AdminAddress;

/// A bound listener.
pub(crate) enum AdminListener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl AdminListener {
    /// Binds. A socket file that a former process left behind is replaced.
    pub async fn bind(address: &AdminAddress) -> anyhow::Result<Self> {
        match address {
            AdminAddress::Unix(path) => unix(path)
                .map(Self::Unix)
                .with_context(|| format!("cannot listen on {}", path.display())),
            AdminAddress::Tcp(address) => TcpListener::bind(address)
                .await
                .map(Self::Tcp)
                .with_context(|| format!("cannot listen on {address}")),
        }
    }

    /// The address, where it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(listener) => listener.local_addr().ok(),
        }
    }

    /// Serves until the future is dropped.
    pub async fn serve(self, router: Router) -> io::Result<()> {
        match self {
            Self::Unix(listener) => axum::serve(listener, router).await,
            Self::Tcp(listener) => axum::serve(listener, router).await,
        }
    }
}

fn unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
