//! The request path through the front door: a client, two proxies with certificates, an application.

mod app;
mod authorisation;
mod clock;
mod forwarding;
mod leaving;
mod limits;
mod mesh;
mod order;
mod records;
mod retries;
mod routing;
mod sharing;
mod wire;
