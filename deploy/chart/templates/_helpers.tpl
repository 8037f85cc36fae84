{{- define "af3.name" -}}
{{- printf "%s" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "af3.labels" -}}
app.kubernetes.io/name: audio-flamingo
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* What selects the servers. Never changes in an upgrade: a Deployment's selector cannot. */}}
{{- define "af3.selector" -}}
app.kubernetes.io/name: audio-flamingo
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "af3.envoySelector" -}}
app.kubernetes.io/name: audio-flamingo
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: envoy
{{- end -}}

{{- define "af3.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ required "image.tag: name the version to run, for example 0.1.0-cpu; `latest` cannot be rolled back" .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "af3.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "af3.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "af3.enginesVolume" -}}
name: engines
{{- if eq .Values.engines.source "image" }}
image:
  reference: {{ required "engines.image.reference: the OCI image that holds engines/" .Values.engines.image.reference | quote }}
  pullPolicy: {{ .Values.engines.image.pullPolicy }}
{{- else }}
persistentVolumeClaim:
  claimName: {{ .Values.engines.pvc.existing | default (printf "%s-engines" (include "af3.name" .)) }}
{{- end }}
{{- end -}}

{{- define "af3.httpProbe" -}}
httpGet:
  path: {{ .path }}
  port: http
  scheme: {{ .scheme }}
{{- end -}}
