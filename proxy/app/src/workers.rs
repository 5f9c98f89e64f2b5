//! The threads that carry traffic: each a runtime of its own with one worker; the first also accepts.

use std::thread;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use weft_proxy_http::Server;
use weft_proxy_net::{Acceptors, Proxy, Seat, run_worker};

/// Threads that end when leaving has, and tell if they end before.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<thread::JoinHandle<anyhow::Result<()>>>,
    /// Closed once a worker has ended.
    ended: mpsc::Receiver<()>,
}

impl Workers {
    /// Starts one thread per seat.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(
        proxy: &Proxy,
        acceptors: Acceptors,
        seats: Vec<Seat>,
        http: &weft_proxy_http::Settings,
    ) -> anyhow::Result<Self> {
        let (alive, ended) = mpsc::channel(1);
        let mut acceptors = Some(acceptors);
        let mut threads = Vec::with_capacity(seats.len());
        for (number, seat) in seats.into_iter().enumerate() {
            let (proxy, http) = (proxy.clone(), http.clone());
            let (acceptors, alive) = (acceptors.take(), alive.clone());
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    let _alive = alive;
                    work(proxy, acceptors, seat, http)
                })
                .context("cannot start a worker")?;
            threads.push(thread);
        }
        Ok(Self { threads, ended })
    }

    /// Returns once every worker has ended. Until leaving has ended, none should.
    pub async fn ended(&mut self) {
        while self.ended.recv().await.is_some() {}
    }

    /// Waits for all threads.
    ///
    /// # Errors
    /// The first worker that failed.
    pub fn join(self) -> anyhow::Result<()> {
        for thread in self.threads {
            match thread.join() {
                Ok(outcome) => outcome?,
                Err(_) => anyhow::bail!("a worker panicked"),
            }
        }
        Ok(())
    }
}

fn work(
    proxy: Proxy,
    acceptors: Option<Acceptors>,
    seat: Seat,
    http: weft_proxy_http::Settings,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a worker's runtime")?;
    LocalSet::new().block_on(&runtime, async move {
        let accept = async {
            match acceptors {
                Some(acceptors) => acceptors.run().await.context("cannot accept"),
                None => Ok(()),
            }
        };
        let work = async {
            run_worker(proxy, seat, |context| Server::new(context, http))
                .await
                .context("cannot set up TLS")
        };
        tokio::try_join!(accept, work).map(drop)
    })
}
