{{/* Spec of the Job that builds engines. */}}
{{- define "af3.buildSpec" -}}
backoffLimit: 3  # the build resumes at the stage that failed
ttlSecondsAfterFinished: 604800
template:
  metadata:
    labels:
      {{- include "af3.labels" . | nindent 6 }}
      app.kubernetes.io/component: engines
  spec:
    restartPolicy: Never
    serviceAccountName: {{ include "af3.name" . }}
    automountServiceAccountToken: false
    securityContext: {{- include "af3.podSecurity" . | nindent 6 }}
    {{- with include "af3.pullSecrets" . | trim }}{{ nindent 4 . }}{{- end }}
    {{- with include "af3.place" .Values | trim }}{{ nindent 4 . }}{{- end }}
    containers:
      - name: engines
        image: {{ include "af3.image" . | quote }}
        imagePullPolicy: {{ .Values.image.pullPolicy }}
        # As docker/compose.yaml's `engines`: make installs what building needs, torch among it, beside a copy of the image's
        # files. The image itself serves and cannot build.
        command: [sh, -ec]
        args:
          - |
            cp -r /opt/audio-flamingo/. /work
            cd /work
            nvidia=/opt/nvidia/nvidia_entrypoint.sh
            if [ -x "$nvidia" ]; then exec "$nvidia" make engines "$@"; fi
            exec make engines "$@"
          - build
          - VENV=/work/.venv
          - {{ printf "GPU=%s" .Values.target | quote }}
          - {{ printf "CHECKPOINT=%s" .Values.build.checkpoint | quote }}
          {{- with .Values.build.precision }}
          - {{ printf "PRECISION=%s" . | quote }}
          {{- end }}
          {{- range .Values.build.options }}
          - {{ . | quote }}
          {{- end }}
        env:
          - {name: HF_HOME, value: /cache}
          - {name: HOME, value: /tmp}
          {{- with .Values.build.extraEnv }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
          {{- with .Values.build.hubTokenSecret }}
          - name: HF_TOKEN
            valueFrom: {secretKeyRef: {name: {{ . }}, key: token}}
          {{- end }}
        resources:
          requests:
            {{- toYaml .Values.build.resources.requests | nindent 12 }}
          limits:
            {{- toYaml .Values.build.resources.limits | nindent 12 }}
            {{- if .Values.gpus }}
            nvidia.com/gpu: {{ .Values.gpus }}
            {{- end }}
        securityContext: {{- include "af3.containerSecurity" . | nindent 10 }}
        volumeMounts:
          - {name: work, mountPath: /work}
          - {name: engines, mountPath: /work/engines}
          - {name: cache, mountPath: /cache}
          - {name: tmp, mountPath: /tmp}
          - {name: shm, mountPath: /dev/shm}
          {{- with .Values.build.volumeMounts }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
    volumes:
      - {{- include "af3.enginesVolume" . | nindent 8 }}
      - name: work
        emptyDir: {sizeLimit: 20Gi}
      - name: cache
        emptyDir: {sizeLimit: {{ .Values.build.cacheSize }}}
      - name: tmp
        emptyDir: {sizeLimit: 20Gi}
      - name: shm
        emptyDir: {medium: Memory, sizeLimit: {{ .Values.sharedMemory }}}
      {{- with .Values.build.volumes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end -}}
