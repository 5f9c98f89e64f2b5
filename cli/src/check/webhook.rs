//! Injection: whether the API server calls the control plane for a new pod, believes it, and gets a pod with a proxy.

use weft_inject::names::PROXY_CONTAINER;

use super::catalogue::Fault;
use super::facts::{Facts, list};

pub(crate) fn works(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    if facts.webhook.is_null() && facts.deployment.is_null() {
        // That there is no mesh is said already.
        return faults;
    }
    if facts.webhook.is_null() {
        faults.push(Fault::error(
            "there is no MutatingWebhookConfiguration weft-injector: new pods get no proxy",
            "`weft install | kubectl apply -f -` with the values of your mesh brings it",
        ));
    } else if list(&facts.webhook["webhooks"]).any(|one| one["clientConfig"]["caBundle"].is_null())
    {
        faults.push(Fault::error(
            "MutatingWebhookConfiguration weft-injector has no bundle, so the API server does not believe the control plane",
            "the leader of the control plane writes it within seconds; if it does not, its log says why",
        ));
    }
    for replica in &facts.replicas {
        if replica.metric("webhook_believed") == Some(0.0) {
            faults.push(Fault::error(
                format!("the webhook of replica {} has a certificate that the API server does not believe", replica.pod),
                "it mends this by itself within seconds; if it does not, its log says why",
            ));
        }
    }
    let tried = match &facts.injection {
        Some(Ok(pod)) => {
            let has_proxy =
                list(&pod["spec"]["initContainers"]).any(|one| one["name"] == PROXY_CONTAINER);
            (!has_proxy).then(|| "it would have been made without a proxy".to_owned())
        }
        Some(Err(error)) => Some(error.clone()),
        None => None,
    };
    if let (Some(reason), true) = (tried, faults.is_empty()) {
        faults.push(Fault::error(
            format!("a pod that asked for a proxy, as a trial: {reason}"),
            format!(
                "the API server must reach Service {0}/weft-control-plane, port 443 (pods: 15017): is a replica ready (kubectl -n {0} \
                 get pods), does a NetworkPolicy or firewall stand between?",
                facts.system
            ),
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_webhook_is_judged_by_what_comes_of_a_pod() {
        let with = json!({"webhooks": [{"clientConfig": {"caBundle": "e30="}}]});
        let facts = |webhook: &Value, injection| Facts {
            webhook: webhook.clone(),
            deployment: json!({}),
            injection,
            ..Facts::default()
        };
        let said = |facts: Facts| {
            works(&facts)
                .into_iter()
                .map(|fault| fault.message)
                .collect::<String>()
        };
        let injected = json!({"spec": {"initContainers": [{"name": "weft-proxy"}]}});
        assert_eq!(said(facts(&with, Some(Ok(injected)))), "");
        assert!(said(facts(&with, Some(Ok(json!({}))))).ends_with("without a proxy"));
        assert!(
            said(facts(&with, Some(Err("failed calling webhook".into()))))
                .ends_with("failed calling webhook")
        );
        assert!(
            said(facts(&json!({"webhooks": [{"clientConfig": {}}]}), None))
                .contains("has no bundle")
        );
        assert!(said(facts(&Value::Null, None)).starts_with("there is no Mutating"));
    }
}
