package awsfake

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"originchain/test/awsfake/model"
)

// Secrets is AWS Secrets Manager: the current value of secrets.
type Secrets struct {
	*service
	secrets map[string]secret // by name
}

type secret struct {
	arn, value, version string
	made                time.Time
}

func newSecrets(f *Fake) *Secrets {
	s := &Secrets{secrets: map[string]secret{}}
	s.service = f.serve("secretsmanager", "secretsmanager", map[string]operation{"GetSecretValue": s.getSecretValue})
	return s
}

// Put makes a secret, or gives it another value, and returns its ARN.
func (s *Secrets) Put(name, value string) (arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	arn = "arn:aws:secretsmanager:" + Region + ":" + Account + ":secret:" + name + "-AbCdEf"
	s.secrets[name] = secret{arn, value, uuid.NewString(), time.Now().UTC()}
	return arn
}

func (s *Secrets) getSecretValue(in model.Struct) (model.Struct, error) {
	id := text(in, "SecretId")
	if stage := text(in, "VersionStage"); stage != "" && stage != "AWSCURRENT" || in["VersionId"] != nil {
		s.fake.t.Errorf("no version but the current one is served here")
	}
	for name, sec := range s.secrets {
		if id == name || id == sec.arn || strings.TrimSuffix(sec.arn, "-AbCdEf") == id {
			return model.Struct{
				"ARN": sec.arn, "Name": name, "VersionId": sec.version, "SecretString": sec.value,
				"VersionStages": []any{"AWSCURRENT"}, "CreatedDate": sec.made,
			}, nil
		}
	}
	return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

// STS is AWS Security Token Service: who asks.
type STS struct{ *service }

func newSTS(f *Fake) *STS {
	s := &STS{}
	s.service = f.serve("sts", "sts", map[string]operation{"GetCallerIdentity": func(model.Struct) (model.Struct, error) {
		return model.Struct{"Account": Account, "Arn": "arn:aws:sts::" + Account + ":assumed-role/test/session", "UserId": "AROATEST:session"}, nil
	}})
	return s
}
