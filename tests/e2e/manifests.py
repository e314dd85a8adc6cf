"""Manifests the tests apply."""

from edgekube.app.demo import IMAGE

STAY = ("sh", "-c", "trap exit TERM; sleep 3600 & wait")
"""Runs until it is told to end, and then ends at once: a plain `sleep` as process 1 ignores SIGTERM."""

WEB = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: web}}
data: {{greeting: hello}}
---
apiVersion: v1
kind: Secret
metadata: {{name: web}}
stringData: {{password: open-sesame}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, labels: {{app: web}}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers:
      - name: prepare
        image: {IMAGE}
        command: [sh, -c, 'mkdir -p /www/x && echo "$GREETING from $HOSTNAME" > /www/index.html']
        env:
        - {{name: GREETING, valueFrom: {{configMapKeyRef: {{name: web, key: greeting}}}}}}
        volumeMounts: [{{name: www, mountPath: /www}}]
      containers:
      - name: web
        image: {IMAGE}
        command: [sh, -c, 'echo started; echo oops >&2; exec httpd -f -v -p 8080 -h /www']
        ports: [{{name: http, containerPort: 8080}}]
        envFrom: [{{secretRef: {{name: web}}}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
        resources: {{limits: {{memory: 64Mi, cpu: 500m}}}}
        volumeMounts:
        - {{name: www, mountPath: /www}}
        - {{name: conf, mountPath: /etc/web}}
      volumes:
      - {{name: www, emptyDir: {{}}}}
      - {{name: conf, configMap: {{name: web}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http}}]
"""


def sleeper(name: str, *, command: str = "exec sleep 100000", extra: str = "") -> str:
    """Return a Pod that runs a shell line; `extra` are further lines of its container."""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {IMAGE}
    command: [sh, -c, {command!r}]
{extra}"""
