//! Folders of YAML, or a Kubernetes API server → the world's objects, and every change of them.
//!
//! Owns files, lines, watches, reading, and the conversion from the YAML types (`weft-api`) to
//! the model (`weft-model`). Does not know what several objects mean together.
//!
//! - Offline: [`load`] reads folders and files once, [`kubernetes::load`] what an API server said.
//! - Live: [`FolderSource`] reads folders, [`KubernetesSource`] a cluster; either follows its
//!   objects and hands out a [`Batch`] per change.
//!
//! What was once accepted stays: a bad file or a bad object changes nothing and is reported as a
//! [`Diagnostic`] with object and field, and with file and line where there are such.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod collection;
mod convert;
mod diagnostic;
mod files;
mod folder;
pub mod kubernetes;
mod locate;
mod objects;
mod read;
mod watch;
mod yaml;

pub use batch::Batch;
pub use diagnostic::{Diagnostic, Place};
pub use folder::{FolderSource, Loaded, OpenError, load};
pub use kubernetes::KubernetesSource;
pub use locate::Locator;
pub use objects::{ObjectChange, Objects};
pub use watch::Refresher;
pub use yaml::{Piece, SyntaxError, pieces};
