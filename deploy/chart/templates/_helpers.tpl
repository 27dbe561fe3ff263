{{- define "dicom-adapter.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "dicom-adapter.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "dicom-adapter.labels" -}}
{{ include "dicom-adapter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "dicom-adapter.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Whether anything is kept as resources, so that pods speak to the API server. */}}
{{- define "dicom-adapter.usesResources" -}}
{{- with .Values.dicomAdapter }}
{{- if or .readAeTitlesFromCrd .readSourcesFromCrd .readDestinationsFromCrd }}yes{{ end }}
{{- end }}
{{- end }}

{{/* The plural names of the kinds that are kept as resources, as a JSON list. */}}
{{- define "dicom-adapter.kinds" -}}
{{- $kinds := list }}
{{- if .Values.dicomAdapter.readAeTitlesFromCrd }}{{ $kinds = append $kinds "claraaetitles" }}{{ end }}
{{- if .Values.dicomAdapter.readSourcesFromCrd }}{{ $kinds = append $kinds "sources" }}{{ end }}
{{- if .Values.dicomAdapter.readDestinationsFromCrd }}{{ $kinds = append $kinds "destinations" }}{{ end }}
{{- toJson $kinds }}
{{- end }}

{{- define "dicom-adapter.keySecret" -}}
{{ .Values.api.existingSecret | default (printf "%s-api-keys" (include "dicom-adapter.name" .)) }}
{{- end }}

{{/* What cannot work is told before anything is installed. */}}
{{- define "dicom-adapter.check" -}}
{{- if and (gt (int .Values.receiver.replicas) 1) (not .Values.dicomAdapter.database.existingSecret) }}
{{- fail "receiver.replicas above 1 needs PostgreSQL: put its URL into a secret and name it in dicomAdapter.database.existingSecret" }}
{{- end }}
{{- if and (gt (int .Values.worker.replicas) 1) (not .Values.dicomAdapter.database.existingSecret) }}
{{- fail "worker.replicas above 1 needs PostgreSQL: put its URL into a secret and name it in dicomAdapter.database.existingSecret" }}
{{- end }}
{{- if not .Values.platform.embedded.enabled }}
{{- if or (not .Values.platform.endpoint) (not .Values.platform.resultsServiceEndpoint) }}
{{- fail "without platform.embedded.enabled both platform.endpoint and platform.resultsServiceEndpoint are needed" }}
{{- end }}
{{- end }}
{{- with .Values.dicomAdapter }}
{{- if and .tls.only (not .tls.existingSecret) }}
{{- fail "dicomAdapter.tls.only needs a secret with a certificate: name it in dicomAdapter.tls.existingSecret" }}
{{- end }}
{{- if and .tls.existingSecret (not .tls.only) (eq (int .tls.port) (int .dicomPort)) }}
{{- fail "dicomAdapter.tls.port and dicomAdapter.dicomPort must differ, unless dicomAdapter.tls.only is true" }}
{{- end }}
{{- end }}
{{- if not .Values.temporal.address }}
{{- fail "temporal.address is needed: host:port of a Temporal frontend" }}
{{- end }}
{{- end }}

{{- define "dicom-adapter.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "dicom-adapter.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Makes the folders of a hostPath ours, which the kubelet makes root's; takes name, folders and root. */}}
{{- define "dicom-adapter.ownFolders" -}}
- name: own-folders
  image: {{ include "dicom-adapter.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [chown, "10001:10001"]
  args: {{ toJson .folders }}
  securityContext:
    runAsUser: 0
    runAsNonRoot: false
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
      add: [CHOWN]
  resources:
    requests: { cpu: 10m, memory: 16Mi }
    limits: { memory: 64Mi }
{{- end }}

{{/* Variables of every part but the platform. */}}
{{- define "dicom-adapter.environment" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: HOME
  value: /data
- name: CLARA_DICOM_DATA_DIR
  value: /data
- name: CLARA_DICOM_CONFIG
  value: /etc/clara-dicom/appsettings.json
- name: ConnectionStrings__DicomAdapterDatabase
{{- if .Values.dicomAdapter.database.existingSecret }}
  valueFrom: { secretKeyRef: { name: {{ .Values.dicomAdapter.database.existingSecret }}, key: url } }
{{- else }}
  value: Data Source=/database/dicomadapter.db
{{- end }}
- name: DicomAdapter__storage__temporary
  value: /payloads
- name: DicomAdapter__logJson
  value: "true"
- name: DicomAdapter__dicom__scp__port
  value: {{ .Values.dicomAdapter.dicomPort | quote }}
- name: DicomAdapter__dicom__scp__readAeTitlesFromCrd
  value: {{ .Values.dicomAdapter.readAeTitlesFromCrd | quote }}
- name: DicomAdapter__dicom__scp__readSourcesFromCrd
  value: {{ .Values.dicomAdapter.readSourcesFromCrd | quote }}
- name: DicomAdapter__dicom__scu__readDestinationsFromCrd
  value: {{ .Values.dicomAdapter.readDestinationsFromCrd | quote }}
{{- include "dicom-adapter.temporalEnvironment" . | nindent 0 }}
{{- if .Values.platform.embedded.enabled }}
- name: DicomAdapter__services__platform__endpoint
  value: {{ include "dicom-adapter.name" . }}-platform:50051
- name: DicomAdapter__services__resultsServiceEndpoint
  value: http://{{ include "dicom-adapter.name" . }}-platform:8088
{{- else }}
- name: DicomAdapter__services__platform__endpoint
  value: {{ .Values.platform.endpoint | quote }}
- name: DicomAdapter__services__resultsServiceEndpoint
  value: {{ .Values.platform.resultsServiceEndpoint | quote }}
{{- end }}
{{- include "dicom-adapter.furtherSettings" . }}
{{- end }}

{{/* How the receiver speaks TLS with senders; it alone has the secret. */}}
{{- define "dicom-adapter.tlsEnvironment" -}}
{{- with .Values.dicomAdapter.tls }}
- name: DicomAdapter__dicom__scp__tls__certificateFile
  value: /etc/dicom-tls/tls.crt
- name: DicomAdapter__dicom__scp__tls__keyFile
  value: /etc/dicom-tls/tls.key
{{- if ne .clientCertificates "none" }}
- name: DicomAdapter__dicom__scp__tls__caFile
  value: /etc/dicom-tls/ca.crt
{{- end }}
- name: DicomAdapter__dicom__scp__tls__port
  value: {{ .port | quote }}
- name: DicomAdapter__dicom__scp__tls__clientCertificates
  value: {{ .clientCertificates }}
- name: DicomAdapter__dicom__scp__tls__minimumVersion
  value: {{ .minimumVersion | quote }}
- name: DicomAdapter__dicom__scp__tls__only
  value: {{ .only | quote }}
{{- end }}
{{- end }}

{{/* Ports that senders may use, by name, as a JSON object. */}}
{{- define "dicom-adapter.dicomPorts" -}}
{{- $ports := dict }}
{{- with .Values.dicomAdapter }}
{{- if .tls.existingSecret }}{{ $_ := set $ports "dicom-tls" (int .tls.port) }}{{ end }}
{{- if not (and .tls.existingSecret .tls.only) }}{{ $_ := set $ports "dicom" (int .dicomPort) }}{{ end }}
{{- end }}
{{- toJson $ports }}
{{- end }}

{{- define "dicom-adapter.temporalEnvironment" -}}
- name: DicomAdapter__services__temporal__address
  value: {{ .Values.temporal.address | quote }}
- name: DicomAdapter__services__temporal__namespace
  value: {{ .Values.temporal.namespace | quote }}
{{- with .Values.temporal.webUiAddress }}
- name: DicomAdapter__services__temporal__webUiAddress
  value: {{ . | quote }}
{{- end }}
{{- if .Values.temporal.tls.enabled }}
- name: DicomAdapter__services__temporal__tls
  value: "true"
{{- with .Values.temporal.tls.serverName }}
- name: DicomAdapter__services__temporal__tlsServerName
  value: {{ . | quote }}
{{- end }}
{{- if .Values.temporal.tls.existingSecret }}
- name: DicomAdapter__services__temporal__tlsCaFile
  value: /etc/temporal-tls/ca.crt
{{- if .Values.temporal.tls.clientCertificate }}
- name: DicomAdapter__services__temporal__tlsCertificateFile
  value: /etc/temporal-tls/tls.crt
- name: DicomAdapter__services__temporal__tlsKeyFile
  value: /etc/temporal-tls/tls.key
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.temporal.apiKeySecret }}
- name: DicomAdapter__services__temporal__apiKey
  valueFrom: { secretKeyRef: { name: {{ . }}, key: api-key } }
{{- end }}
{{- end }}

{{- define "dicom-adapter.furtherSettings" -}}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* Where each part tells probes and Prometheus how it is; takes root and port. */}}
{{- define "dicom-adapter.healthEnvironment" -}}
- name: DicomAdapter__health__host
  value: 0.0.0.0
- name: DicomAdapter__health__port
  value: {{ .port | quote }}
{{- end }}

{{/* Probes of a part; takes the port's name. A part that starts may have a long spool to look through. */}}
{{- define "dicom-adapter.probes" -}}
startupProbe:
  httpGet: { path: /health/live, port: {{ .port }} }
  periodSeconds: 5
  failureThreshold: 120
livenessProbe:
  httpGet: { path: /health/live, port: {{ .port }} }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: {{ .ready | default "/health/ready" | quote }}, port: {{ .port }} }
  periodSeconds: 10
  timeoutSeconds: 5
{{- end }}

{{- define "dicom-adapter.mounts" -}}
- name: configuration
  mountPath: /etc/clara-dicom
  readOnly: true
- name: data
  mountPath: /data
- name: tmp
  mountPath: /tmp
{{- if not .Values.dicomAdapter.database.existingSecret }}
- name: database
  mountPath: /database
{{- end }}
{{- include "dicom-adapter.temporalMounts" . }}
{{- end }}

{{- define "dicom-adapter.temporalMounts" -}}
{{- if and .Values.temporal.tls.enabled .Values.temporal.tls.existingSecret }}
- name: temporal-tls
  mountPath: /etc/temporal-tls
  readOnly: true
{{- end }}
{{- end }}

{{- define "dicom-adapter.temporalVolumes" -}}
{{- if and .Values.temporal.tls.enabled .Values.temporal.tls.existingSecret }}
- name: temporal-tls
  secret:
    secretName: {{ .Values.temporal.tls.existingSecret }}
{{- end }}
{{- end }}

{{- define "dicom-adapter.volumes" -}}
- name: configuration
  configMap:
    name: {{ include "dicom-adapter.name" . }}
- name: data
  emptyDir: {}
- name: tmp
  emptyDir: {}
{{- with .Values.dicomAdapter.database }}
{{- if not .existingSecret }}
- name: database
{{- if .hostPath }}
  hostPath:
    path: {{ .hostPath }}
    type: DirectoryOrCreate
{{- else }}
  persistentVolumeClaim:
    claimName: {{ include "dicom-adapter.name" $ }}-database
{{- end }}
{{- end }}
{{- end }}
{{- include "dicom-adapter.temporalVolumes" . }}
{{- end }}

{{/* An SQLite database is served on one node: the other pods go where the receiver is. */}}
{{- define "dicom-adapter.besideReceiver" -}}
podAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "dicom-adapter.selector" . | nindent 10 }}
          app.kubernetes.io/component: receiver
{{- end }}
