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

{{- /* Kubernetes' own gRPC probe speaks no TLS; its HTTP probe does, but has no certificate to show:
with mTLS a port that takes connections is all that can be asked for. */ -}}
{{- define "neuralrank.ready" -}}
{{- if .Values.tls.clientCertificates }}
tcpSocket: {port: grpc}
{{- else if .Values.tls.secretName }}
httpGet: {path: /readyz, port: http, scheme: HTTPS}
{{- else }}
grpc: {port: 50051, service: neuralrank.v1.Ranking}
{{- end }}
{{- end }}
