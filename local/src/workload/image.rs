//! What stands in for container images. Nothing is pulled: a container runs programs that are
//! installed on the machine. A container without a `command` is looked up here by the name of its
//! image, without registry, tag or digest.

use std::path::PathBuf;

/// A program of this machine in the place of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What the image would start.
    pub command: Vec<String>,
    /// Files that people expect in the image and may mount over.
    pub files: Vec<(PathBuf, String)>,
    /// Whether the image says `STOPSIGNAL SIGQUIT`, which lets requests finish.
    pub stop_by_quit: bool,
}

/// The names that [`find`] knows.
pub const KNOWN: [&str; 1] = ["nginx"];

/// The image's stand-in.
pub fn find(image: &str) -> Option<Image> {
    match name(image) {
        "nginx" => Some(nginx()),
        _ => None,
    }
}

/// `registry:5000/library/nginx:1.27@sha256:…` → `nginx`
fn name(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(['@', ':']).next().unwrap_or(last)
}

/// As the official image has it: `conf.d/*.conf` is read, the default server serves
/// `/usr/share/nginx/html` on port 80, logs go to the container's output.
fn nginx() -> Image {
    let main = "\
user www-data;
worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
";
    let default_server = "\
server {
    listen 80;
    listen [::]:80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
}
";
    Image {
        command: ["nginx", "-g", "daemon off;"].map(str::to_owned).to_vec(),
        files: vec![
            (PathBuf::from("/etc/nginx/nginx.conf"), main.to_owned()),
            (
                PathBuf::from("/etc/nginx/conf.d/default.conf"),
                default_server.to_owned(),
            ),
        ],
        stop_by_quit: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_name() {
        for image in [
            "nginx",
            "nginx:1.27",
            "docker.io/library/nginx@sha256:00",
            "r:5000/nginx:x",
        ] {
            assert!(find(image).is_some(), "{image}");
        }
        assert!(find("nginxinc/other:1").is_none());
        assert!(KNOWN.iter().all(|name| find(name).is_some()));
    }
}
