//! The request path through the front door: a client, two proxies with certificates, an application.

mod app;
mod forwarding;
mod mesh;
