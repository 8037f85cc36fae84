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

{{- define "af3.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where pods may run, by what and how urgently: of .Values, or of routing.envoy. */}}
{{- define "af3.place" -}}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" }}
{{- with index $ $name }}
{{ dict $name . | toYaml }}
{{- end }}
{{- end }}
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

{{/* How many servers there may be. */}}
{{- define "af3.mostServers" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled -}}
{{- end -}}

{{/* Envoy's configuration with every server by its name: the same over both protocols, and after a restart. */}}
{{- define "af3.envoyByName" -}}
{{- $config := fromYaml .config }}
{{- $root := .root }}
{{- range $config.static_resources.clusters }}
{{- $port := ternary 8001 8000 (eq .name "servers-grpc") }}
{{- $endpoints := list }}
{{- range $number := until (int (include "af3.mostServers" $root)) }}
{{- $name := printf "%s-%d" (include "af3.name" $root) $number }}
{{- $host := printf "%s.%s-servers.%s.svc" $name (include "af3.name" $root) $root.Release.Namespace }}
{{- $endpoint := dict "address" (dict "socket_address" (dict "address" $host "port_value" $port)) "health_check_config" (dict "port_value" 8000) }}
{{- $key := dict "filter_metadata" (dict "envoy.lb" (dict "hash_key" $name)) }}
{{- $endpoints = append $endpoints (dict "endpoint" $endpoint "metadata" $key) }}
{{- end }}
{{- $_ := set .load_assignment "endpoints" (list (dict "lb_endpoints" $endpoints)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* Envoy's configuration with TLS on both sides: known to clients by the servers' own certificate, which it also shows
     to servers that ask for one. Without mutual TLS there is no CA to check the servers' certificates by. */}}
{{- define "af3.encryptedEnvoy" -}}
{{- $kind := "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3." }}
{{- $pair := dict "certificate_chain" (dict "filename" "/etc/envoy-tls/tls.crt") "private_key" (dict "filename" "/etc/envoy-tls/tls.key") }}
{{- $ca := dict "trusted_ca" (dict "filename" "/etc/envoy-tls/ca.crt") }}
{{- $config := fromYaml .config }}
{{- $mutual := .mutual }}
{{- range $config.static_resources.listeners }}
{{- $common := dict "tls_certificates" (list $pair) "alpn_protocols" (ternary (list "h2") (list "h2" "http/1.1") (eq .name "grpc")) }}
{{- $context := dict "@type" (print $kind "DownstreamTlsContext") "common_tls_context" $common }}
{{- if $mutual }}
{{- $_ := set $common "validation_context" $ca }}
{{- $_ := set $context "require_client_certificate" true }}
{{- end }}
{{- $_ := set (first .filter_chains) "transport_socket" (dict "name" "envoy.transport_sockets.tls" "typed_config" $context) }}
{{- end }}
{{- range $config.static_resources.clusters }}
{{- $common := dict "alpn_protocols" (ternary (list "h2") (list "http/1.1") (eq .name "servers-grpc")) }}
{{- if $mutual }}
{{- $_ := set $common "tls_certificates" (list $pair) }}
{{- $_ := set $common "validation_context" $ca }}
{{- end }}
{{- $context := dict "@type" (print $kind "UpstreamTlsContext") "common_tls_context" $common }}
{{- $_ := set . "transport_socket" (dict "name" "envoy.transport_sockets.tls" "typed_config" $context) }}
{{- end }}
{{- toYaml $config }}
{{- end }}
