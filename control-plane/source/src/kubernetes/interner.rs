//! Equal texts share one allocation: a thousand pods of one Deployment carry the same labels, and
//! most of what a pod takes would be copies of them.

use std::collections::HashSet;
use std::sync::Arc;

use weft_model::{Labels, Object, Spec};

/// Fewer texts are not worth looking through for those that nobody uses any more.
const SMALLEST_SWEEP: usize = 1024;

/// The texts that are shared.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    texts: HashSet<Arc<str>>,
    /// How many there may be before the next look for unused ones.
    sweep_at: usize,
}

impl Interner {
    /// The shared form of the text.
    pub(crate) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        if self.texts.len() >= self.sweep_at.max(SMALLEST_SWEEP) {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = 2 * self.texts.len();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    /// Puts shared texts in place of those of the object that others are likely to have too.
    pub(crate) fn share_within(&mut self, object: &mut Object) {
        self.put(&mut object.key.namespace);
        match &mut object.spec {
            Spec::Pod(pod) => {
                self.labels(&mut pod.labels);
                self.put(&mut pod.service_account);
                self.put(&mut pod.workload);
                pod.zone.iter_mut().for_each(|zone| self.put(zone));
                let names = pod.ports.iter_mut().map(|port| &mut port.name);
                names.for_each(|name| self.put(name));
                pod.ports.shrink_to_fit();
                pod.ips.shrink_to_fit();
            }
            Spec::EndpointSlice(slice) => {
                self.put(&mut slice.service);
                for port in &mut slice.ports {
                    self.put(&mut port.name);
                    port.app_protocol.iter_mut().for_each(|text| self.put(text));
                }
                let zones = slice.endpoints.iter_mut().flat_map(|end| &mut end.zone);
                zones.for_each(|zone| self.put(zone));
                slice.ports.shrink_to_fit();
                slice.endpoints.shrink_to_fit();
            }
            Spec::Service(service) => {
                self.labels(&mut service.selector);
                let names = service.ports.iter_mut().map(|port| &mut port.name);
                names.for_each(|name| self.put(name));
            }
            _ => {}
        }
    }

    fn labels(&mut self, labels: &mut Labels) {
        let shared = labels
            .iter()
            .map(|(key, value)| (self.share(key), self.share(value)));
        *labels = shared.collect();
    }

    fn put(&mut self, text: &mut Arc<str>) {
        *text = self.share(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_and_unused_ones_go() {
        let mut interner = Interner::default();
        let kept = interner.share("kept");
        assert!(Arc::ptr_eq(&kept, &interner.share("kept")));
        for number in 0..10 * SMALLEST_SWEEP {
            interner.share(&number.to_string());
        }
        assert!(interner.texts.len() <= SMALLEST_SWEEP + 1);
        assert!(Arc::ptr_eq(&kept, &interner.share("kept")));
    }
}
