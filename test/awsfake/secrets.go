package awsfake

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"originchain/test/awsfake/model"
)

// Secrets is AWS Secrets Manager: the current value of secrets, and the one before it.
type Secrets struct {
	*service
	secrets map[string]secret // by name
}

type secret struct {
	arn      string
	versions []version // the current one last
}

type version struct {
	value, id string
	made      time.Time
}

func newSecrets(f *Fake) *Secrets {
	s := &Secrets{secrets: map[string]secret{}}
	s.service = f.serve("secretsmanager", "secretsmanager", map[string]operation{"GetSecretValue": s.getSecretValue})
	return s
}

// Age makes the current value of a secret older.
func (s *Secrets) Age(name string, by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.secrets[name].versions
	v[len(v)-1].made = v[len(v)-1].made.Add(-by)
}

// Put makes a secret, or gives it another value, and returns its ARN.
func (s *Secrets) Put(name, value string) (arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	arn = "arn:aws:secretsmanager:" + Region + ":" + Account + ":secret:" + name + "-AbCdEf"
	versions := append(s.secrets[name].versions, version{value, uuid.NewString(), time.Now().UTC()})
	s.secrets[name] = secret{arn, versions[max(0, len(versions)-2):]}
	return arn
}

func (s *Secrets) getSecretValue(in model.Struct) (model.Struct, error) {
	id := text(in, "SecretId")
	stage, back := text(in, "VersionStage"), 1
	switch {
	case in["VersionId"] != nil:
		s.fake.t.Errorf("no version is served here by its id")
	case stage == "AWSPREVIOUS":
		back = 2
	case stage != "" && stage != "AWSCURRENT":
		return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: %s", stage)
	default:
		stage = "AWSCURRENT"
	}
	for name, sec := range s.secrets {
		if id == name || id == sec.arn || strings.TrimSuffix(sec.arn, "-AbCdEf") == id {
			if len(sec.versions) < back {
				return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: %s", stage)
			}
			v := sec.versions[len(sec.versions)-back]
			return model.Struct{
				"ARN": sec.arn, "Name": name, "VersionId": v.id, "SecretString": v.value,
				"VersionStages": []any{stage}, "CreatedDate": v.made,
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
