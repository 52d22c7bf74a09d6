{{- define "neuralrank.name" -}}
{{- if contains "neuralrank" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-neuralrank{{ end }}
{{- end }}

{{- define "neuralrank.selector" -}}
app.kubernetes.io/name: neuralrank
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "neuralrank.labels" -}}
{{ include "neuralrank.selector" . }}
app.kubernetes.io/component: sidecar
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Whether it is "ready" or "live", both answered by its event loop. Kubernetes has no certificate to
show: where clients need one, a command in the pod asks with the pod's own. */ -}}
{{- define "neuralrank.probe" -}}
{{- if .values.tls.clientCertificates }}
exec: {command: [neuralrank-sidecar-check, {{ .question }}]}
{{- else }}
httpGet:
  path: {{ ternary "/readyz" "/healthz" (eq .question "ready") }}
  port: http
  scheme: {{ ternary "HTTPS" "HTTP" (not (empty .values.tls.secretName)) }}
{{- end }}
timeoutSeconds: 5
{{- end }}

{{- /* JSON and YAML values are floating point to Helm, which would write 536870912 as 5.36870912e+08. */ -}}
{{- define "neuralrank.value" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}
