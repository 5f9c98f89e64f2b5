//! What a source hands out: everything that changed at one moment, and all that is wrong then.

use weft_model::Change;

use crate::diagnostic::Diagnostic;
use crate::locate::Locator;
use crate::objects::ObjectChange;

/// One step of a source. The first one leads from nothing to all that the source holds: a control
/// plane opens its streams after it.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Its number, from 1.
    pub number: u64,
    /// The changes of the world.
    pub changes: Vec<Change>,
    /// The same in the YAML types: accepted objects only, Deployments included. Of a cluster there
    /// are none: nobody needs them, and they would take many times what the model does.
    pub objects: Vec<ObjectChange>,
    /// Everything that is wrong after this step, sorted by place; not only what is new.
    pub diagnostics: Vec<Diagnostic>,
    /// Finds the lines of findings that come later, of compile.
    pub locator: Locator,
}
