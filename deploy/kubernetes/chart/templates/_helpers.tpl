{{/* The names of Kubernetes have no underscore: user_management becomes user-management. */}}
{{- define "aidevos.name" -}}
{{ .release }}-{{ .service | replace "_" "-" }}
{{- end }}

{{- define "aidevos.selector" -}}
app.kubernetes.io/name: aidevos
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service | replace "_" "-" }}
{{- end }}

{{- define "aidevos.labels" -}}
{{ include "aidevos.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "aidevos.image" -}}
{{ .own | default (printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default .root.Chart.AppVersion)) }}
{{- end }}

{{/* What every pod has: a user without rights, no token of the cluster, and no variables of its neighbours, since
     AIDEVOS_PORT of a Service named `aidevos` would be taken for a setting. */}}
{{- define "aidevos.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 999
  runAsGroup: 999
  fsGroup: 999
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "aidevos.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Settings of every process. */}}
{{- define "aidevos.env" -}}
- name: AIDEVOS_PUBLIC_URL
  value: {{ required "publicUrl is required: where users find the gateway" .Values.publicUrl | quote }}
{{- with .Values.tlsSecret }}
- name: AIDEVOS_TLS_CA
  value: /etc/aidevos-tls/ca.crt
{{- end }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "aidevos.tlsMount" -}}
{{- if .Values.tlsSecret }}
- {name: tls, mountPath: /etc/aidevos-tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "aidevos.tlsVolume" -}}
{{- with .Values.tlsSecret }}
- name: tls
  secret: {secretName: {{ . }}}
{{- end }}
{{- end }}
