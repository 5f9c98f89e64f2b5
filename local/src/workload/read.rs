//! Kubernetes' pod specification → [`PodTemplate`], and a [`Refusal`] for every field that would
//! change what the pod does and is not had here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container as K8sContainer, EnvFromSource, EnvVar, Lifecycle, PodSpec, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::env::{Field, Value};
use super::template::{
    Container, PROXY_UID, PodTemplate, Port, PreStop, Refusal, Restart, VolumeUse,
};
use super::{Key, image};
use crate::pod::probe::Probes;

impl PodTemplate {
    /// Reads a pod's metadata and specification.
    ///
    /// # Errors
    /// Every field that is asked for and not had.
    pub fn parse(
        namespace: &str,
        meta: ObjectMeta,
        spec: PodSpec,
        config_maps: &BTreeMap<Key, &ConfigMap>,
    ) -> Result<Self, Vec<Refusal>> {
        let mut reader = Reader {
            namespace,
            config_maps,
            refusals: Vec::new(),
        };
        let template = reader.pod(meta, spec);
        if reader.refusals.is_empty() {
            Ok(template)
        } else {
            Err(reader.refusals)
        }
    }
}

struct Reader<'a> {
    namespace: &'a str,
    config_maps: &'a BTreeMap<Key, &'a ConfigMap>,
    refusals: Vec<Refusal>,
}

impl Reader<'_> {
    fn refuse(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.refusals.push(Refusal {
            field: field.into(),
            reason: reason.into(),
        });
    }

    fn pod(&mut self, meta: ObjectMeta, spec: PodSpec) -> PodTemplate {
        if spec
            .init_containers
            .as_ref()
            .is_some_and(|all| !all.is_empty())
        {
            self.refuse("spec.initContainers", "not run on one machine");
        }
        for (name, set) in [
            ("hostNetwork", spec.host_network),
            ("hostPID", spec.host_pid),
            ("hostIPC", spec.host_ipc),
        ] {
            if set == Some(true) {
                self.refuse(
                    format!("spec.{name}"),
                    "a pod has namespaces of its own here",
                );
            }
        }
        let restart = match spec.restart_policy.as_deref() {
            None | Some("Always") => Restart::Always,
            Some("OnFailure") => Restart::OnFailure,
            Some("Never") => Restart::Never,
            Some(other) => {
                self.refuse("spec.restartPolicy", format!("unknown policy {other:?}"));
                Restart::Always
            }
        };
        let security = spec.security_context.as_ref();
        let user = (
            security.and_then(|context| context.run_as_user),
            security.and_then(|context| context.run_as_group),
        );
        let volumes = self.volumes(spec.volumes.unwrap_or_default());
        let containers: Vec<Container> = spec
            .containers
            .into_iter()
            .map(|container| self.container(container, user, &volumes))
            .collect();
        if containers.is_empty() {
            self.refuse("spec.containers", "a pod needs at least one");
        }
        let template = PodTemplate {
            labels: meta.labels.unwrap_or_default(),
            annotations: meta.annotations.unwrap_or_default(),
            service_account: spec
                .service_account_name
                .or(spec.service_account)
                .unwrap_or_else(|| "default".to_owned()),
            containers,
            volumes,
            termination_grace_seconds: spec
                .termination_grace_period_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .unwrap_or(30),
            restart,
            hostname: spec.hostname,
        };
        if let Err(weft_inject::Refusal { field, reason }) = template.asked(None) {
            self.refuse(field, reason);
        }
        template
    }

    fn volumes(&mut self, volumes: Vec<Volume>) -> BTreeMap<String, BTreeMap<PathBuf, String>> {
        let mut read = BTreeMap::new();
        for volume in volumes {
            let field = format!("spec.volumes[{}]", volume.name);
            let files = match (&volume.config_map, &volume.empty_dir) {
                (Some(source), _) => {
                    let items = source.items.as_deref().unwrap_or_default();
                    let keys: Vec<_> = items.iter().map(|item| (&item.key, &item.path)).collect();
                    let optional = source.optional.unwrap_or(false);
                    self.config_map_files(&field, &source.name, &keys, optional)
                }
                (None, Some(_)) => BTreeMap::new(),
                (None, None) => {
                    self.refuse(&field, "only configMap and emptyDir volumes exist here");
                    continue;
                }
            };
            read.insert(volume.name, files);
        }
        read
    }

    fn config_map(&mut self, field: &str, name: &str, optional: bool) -> Option<ConfigMap> {
        let map = self
            .config_maps
            .get(&Key::new(self.namespace, name))
            .map(|map| (*map).clone());
        if map.is_none() && !optional {
            let reason = format!("ConfigMap {}/{name} is not in the folder", self.namespace);
            self.refuse(field, reason);
        }
        map
    }

    fn config_map_files(
        &mut self,
        field: &str,
        name: &str,
        items: &[(&String, &String)],
        optional: bool,
    ) -> BTreeMap<PathBuf, String> {
        let Some(map) = self.config_map(field, name, optional) else {
            return BTreeMap::new();
        };
        let data = map.data.unwrap_or_default();
        if items.is_empty() {
            return data
                .into_iter()
                .map(|(key, text)| (PathBuf::from(key), text))
                .collect();
        }
        let mut files = BTreeMap::new();
        for (key, path) in items {
            match data.get(*key) {
                Some(text) => {
                    files.insert(PathBuf::from(path), text.clone());
                }
                None => self.refuse(field, format!("ConfigMap {name} has no key {key:?}")),
            }
        }
        files
    }

    fn container(
        &mut self,
        container: K8sContainer,
        (pod_uid, pod_gid): (Option<i64>, Option<i64>),
        volumes: &BTreeMap<String, BTreeMap<PathBuf, String>>,
    ) -> Container {
        let field = format!("spec.containers[{}]", container.name);
        let security = container.security_context.as_ref();
        let uid = security
            .and_then(|context| context.run_as_user)
            .or(pod_uid)
            .unwrap_or(0);
        let gid = security
            .and_then(|context| context.run_as_group)
            .or(pod_gid)
            .unwrap_or(uid);
        let id = |id: i64| u32::try_from(id).unwrap_or(0);
        if uid == i64::from(PROXY_UID) {
            self.refuse(
                format!("{field}.securityContext.runAsUser"),
                format!("{PROXY_UID} is the proxy's own user, whose traffic bypasses the mesh"),
            );
        }
        let (argv, files, stop_by_quit) = self.program(&field, &container);
        let mut env = self.env_from(&field, container.env_from.unwrap_or_default());
        env.extend(self.env(&field, container.env.unwrap_or_default()));
        let ports: Vec<Port> = container
            .ports
            .unwrap_or_default()
            .into_iter()
            .map(|port| Port {
                name: port.name.unwrap_or_default(),
                number: u16::try_from(port.container_port).unwrap_or(0),
                protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
            })
            .collect();
        let probes = Probes::parse(
            &ports,
            container.startup_probe.as_ref(),
            container.readiness_probe.as_ref(),
            container.liveness_probe.as_ref(),
        )
        .unwrap_or_else(|(probe, reason)| {
            self.refuse(format!("{field}.{probe}"), reason);
            Probes::default()
        });
        Container {
            argv,
            env,
            working_dir: container.working_dir,
            ports,
            probes,
            uid: id(uid),
            gid: id(gid),
            mounts: self.mounts(&field, container.volume_mounts.unwrap_or_default(), volumes),
            files,
            stop_by_quit,
            pre_stop: self.pre_stop(&field, container.lifecycle),
            name: container.name,
        }
    }

    fn program(
        &mut self,
        field: &str,
        container: &K8sContainer,
    ) -> (Vec<String>, Vec<(PathBuf, String)>, bool) {
        let name = container.image.as_deref().unwrap_or_default();
        let image = image::find(name);
        let args = container.args.clone().unwrap_or_default();
        let command = container.command.clone().unwrap_or_default();
        let files = image
            .as_ref()
            .map(|image| image.files.clone())
            .unwrap_or_default();
        let stop_by_quit = image.as_ref().is_some_and(|image| image.stop_by_quit);
        let argv = match (command.is_empty(), args.is_empty(), image) {
            (false, _, _) => [command, args].concat(),
            (true, false, Some(image)) => [vec![image.command[0].clone()], args].concat(),
            (true, true, Some(image)) => image.command,
            (true, _, None) => {
                let known = image::KNOWN.join(", ");
                self.refuse(
                    format!("{field}.command"),
                    format!(
                        "missing: images are not pulled, and {name:?} is none of the programs \
                         known here ({known})"
                    ),
                );
                Vec::new()
            }
        };
        (argv, files, stop_by_quit)
    }

    fn env_from(&mut self, field: &str, sources: Vec<EnvFromSource>) -> Vec<(String, Value)> {
        let mut env = Vec::new();
        for source in sources {
            let Some(reference) = source.config_map_ref else {
                self.refuse(format!("{field}.envFrom"), "only configMapRef is read here");
                continue;
            };
            let optional = reference.optional.unwrap_or(false);
            let field = format!("{field}.envFrom");
            let Some(map) = self.config_map(&field, &reference.name, optional) else {
                continue;
            };
            let prefix = source.prefix.unwrap_or_default();
            for (key, text) in map.data.unwrap_or_default() {
                env.push((
                    format!("{prefix}{key}"),
                    Value::Literal(text.replace('$', "$$")),
                ));
            }
        }
        env
    }

    fn env(&mut self, field: &str, variables: Vec<EnvVar>) -> Vec<(String, Value)> {
        let mut env = Vec::new();
        for variable in variables {
            let field = format!("{field}.env[{}]", variable.name);
            let Some(source) = variable.value_from else {
                env.push((
                    variable.name,
                    Value::Literal(variable.value.unwrap_or_default()),
                ));
                continue;
            };
            if let Some(reference) = source.field_ref {
                match Field::parse(&reference.field_path) {
                    Some(read) => env.push((variable.name, Value::Field(read))),
                    None => {
                        let reason = format!("{:?} is not read here", reference.field_path);
                        self.refuse(format!("{field}.valueFrom.fieldRef.fieldPath"), reason);
                    }
                }
            } else if let Some(reference) = source.config_map_key_ref {
                let optional = reference.optional.unwrap_or(false);
                let items = [(&reference.key, &reference.key)];
                let files = self.config_map_files(&field, &reference.name, &items, optional);
                for text in files.into_values() {
                    env.push((
                        variable.name.clone(),
                        Value::Literal(text.replace('$', "$$")),
                    ));
                }
            } else {
                self.refuse(
                    format!("{field}.valueFrom"),
                    "only fieldRef and configMapKeyRef are read here",
                );
            }
        }
        env
    }

    fn mounts(
        &mut self,
        field: &str,
        mounts: Vec<VolumeMount>,
        volumes: &BTreeMap<String, BTreeMap<PathBuf, String>>,
    ) -> Vec<VolumeUse> {
        let mut uses = Vec::new();
        for mount in mounts {
            let field = format!("{field}.volumeMounts[{}]", mount.name);
            if !volumes.contains_key(&mount.name) {
                self.refuse(&field, "there is no volume of this name");
            }
            if mount.sub_path_expr.is_some() {
                self.refuse(format!("{field}.subPathExpr"), "not expanded here");
            }
            let target = PathBuf::from(&mount.mount_path);
            if !target.is_absolute() || target.starts_with(crate::pod::pause::POD_WEFT_DIR) {
                self.refuse(
                    format!("{field}.mountPath"),
                    "must be absolute and not below /run/weft",
                );
            }
            uses.push(VolumeUse {
                volume: mount.name,
                sub_path: PathBuf::from(mount.sub_path.unwrap_or_default()),
                target,
                read_only: mount.read_only.unwrap_or(false),
            });
        }
        uses
    }

    fn pre_stop(&mut self, field: &str, lifecycle: Option<Lifecycle>) -> Option<PreStop> {
        let lifecycle = lifecycle?;
        if lifecycle.post_start.is_some() {
            self.refuse(format!("{field}.lifecycle.postStart"), "not run here");
        }
        let hook = lifecycle.pre_stop?;
        if let Some(sleep) = hook.sleep {
            return Some(PreStop::Sleep(u64::try_from(sleep.seconds).unwrap_or(0)));
        }
        if let Some(exec) = hook.exec {
            return Some(PreStop::Exec(exec.command.unwrap_or_default()));
        }
        self.refuse(
            format!("{field}.lifecycle.preStop"),
            "only sleep and exec are run here",
        );
        None
    }
}

#[cfg(test)]
mod tests;
